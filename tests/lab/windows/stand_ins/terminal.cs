// What a runspace of a request writes to: text to the request's streams. Nobody is there to answer a question.
using System;
using System.Collections.Generic;
using System.Collections.ObjectModel;
using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;
using System.Reflection;
using System.Security;

namespace FleetPatch.StandIns
{
    public sealed class Terminal : PSHost
    {
        readonly Request request;
        readonly TerminalUI ui;
        readonly Guid id = Guid.NewGuid();
        static readonly CultureInfo Foreign = MakeForeign();

        // Numbers and times are written in another way than in English, years are those of the Hijri calendar, and i is
        // no small I: what goes into a record or to a program of Windows must not depend on the system's language.
        static CultureInfo MakeForeign()
        {
            var culture = new CultureInfo("tr-TR");
            // without its data of languages, .NET allows no other calendar than its own
            typeof(DateTimeFormatInfo).GetField("calendar", BindingFlags.Instance | BindingFlags.NonPublic)
                .SetValue(culture.DateTimeFormat, new UmAlQuraCalendar());
            culture.NumberFormat.NegativeSign = "\u2212";
            culture.NumberFormat.NumberDecimalSeparator = ",";
            culture.NumberFormat.NumberGroupSeparator = ".";
            culture.DateTimeFormat.TimeSeparator = ".";
            culture.DateTimeFormat.DateSeparator = ".";
            culture.DateTimeFormat.ShortDatePattern = "d.M.yyyy";
            return culture;
        }

        public Terminal(Request request) { this.request = request; ui = new TerminalUI(request); }

        public override string Name => "ConsoleHost";
        public override Version Version => new Version(5, 1);
        public override Guid InstanceId => id;
        public override PSHostUserInterface UI => ui;
        public override CultureInfo CurrentCulture => Foreign;
        public override CultureInfo CurrentUICulture => CultureInfo.InvariantCulture;
        public override void SetShouldExit(int exitCode) { request.ExitCode = exitCode; }
        public override void EnterNestedPrompt() => throw new PSNotSupportedException("nested prompt");
        public override void ExitNestedPrompt() { }
        public override void NotifyBeginApplication() { }
        public override void NotifyEndApplication() { }
    }

    public sealed class TerminalUI : PSHostUserInterface
    {
        readonly Request request;
        readonly ScreenUI screen = new ScreenUI();

        public TerminalUI(Request request) { this.request = request; }

        public override PSHostRawUserInterface RawUI => screen;
        public override void Write(string value) => request.Out.Write(value);
        public override void Write(ConsoleColor foreground, ConsoleColor background, string value) =>
            request.Out.Write(value);
        public override void WriteLine(string value) => request.Out.WriteLine(value);
        public override void WriteErrorLine(string value) => request.Err.WriteLine(value);
        public override void WriteDebugLine(string message)
        {
            if (!Coverage.Take(message)) request.Out.WriteLine("DEBUG: " + message);
        }

        public override void WriteVerboseLine(string message) => request.Out.WriteLine("VERBOSE: " + message);
        public override void WriteWarningLine(string message) => request.Out.WriteLine("WARNING: " + message);
        public override void WriteProgress(long sourceId, ProgressRecord record) =>
            request.Err.WriteLine("PROGRESS: " + record.Activity);

        static PSInvalidOperationException NobodyThere() =>
            new PSInvalidOperationException(
                "PowerShell is in NonInteractive mode. Read and Prompt functionality is not available.");

        public override string ReadLine() => throw NobodyThere();
        public override SecureString ReadLineAsSecureString() => throw NobodyThere();
        public override Dictionary<string, PSObject> Prompt(string caption, string message,
            Collection<FieldDescription> fields) => throw NobodyThere();
        public override int PromptForChoice(string caption, string message, Collection<ChoiceDescription> choices,
            int chosen) => throw NobodyThere();
        public override PSCredential PromptForCredential(string caption, string message, string user, string target) =>
            throw NobodyThere();
        public override PSCredential PromptForCredential(string caption, string message, string user, string target,
            PSCredentialTypes types, PSCredentialUIOptions options) => throw NobodyThere();
    }

    public sealed class ScreenUI : PSHostRawUserInterface
    {
        public override ConsoleColor ForegroundColor { get; set; } = ConsoleColor.Gray;
        public override ConsoleColor BackgroundColor { get; set; } = ConsoleColor.Black;
        public override Size BufferSize { get; set; } = new Size(120, 50);
        public override Coordinates CursorPosition { get; set; }
        public override int CursorSize { get; set; } = 25;
        public override bool KeyAvailable => false;
        public override Size MaxPhysicalWindowSize => new Size(120, 50);
        public override Size MaxWindowSize => new Size(120, 50);
        public override Coordinates WindowPosition { get; set; }
        public override Size WindowSize { get; set; } = new Size(120, 50);
        public override string WindowTitle { get; set; } = "";
        public override void FlushInputBuffer() { }
        public override BufferCell[,] GetBufferContents(Rectangle rectangle) =>
            throw new PSNotSupportedException("no screen");
        public override KeyInfo ReadKey(ReadKeyOptions options) => throw new PSNotSupportedException("no keyboard");
        public override void ScrollBufferContents(Rectangle source, Coordinates destination, Rectangle clip,
            BufferCell fill) { }
        public override void SetBufferContents(Coordinates origin, BufferCell[,] contents) { }
        public override void SetBufferContents(Rectangle rectangle, BufferCell fill) { }
    }
}
