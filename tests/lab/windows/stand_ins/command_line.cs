// The arguments of powershell.exe, and how Windows cuts a command line into arguments.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Text;

namespace FleetPatch.StandIns
{
    public sealed class CommandLine
    {
        public string Script { get; private set; }
        public string File { get; private set; }
        public List<string> FileArguments { get; } = new List<string>();

        static readonly string[] Switches = { "-noprofile", "-noninteractive", "-nologo", "-sta", "-mta" };
        static readonly string[] Valued = { "-executionpolicy", "-inputformat", "-outputformat", "-windowstyle" };

        public static CommandLine Of(IList<string> arguments)
        {
            var line = new CommandLine();
            for (var i = 0; i < arguments.Count; i++)
            {
                var name = arguments[i].ToLowerInvariant();
                if (Switches.Contains(name)) continue;
                if (Valued.Contains(name)) { Next(arguments, ref i); continue; }
                switch (name)
                {
                    case "-encodedcommand":
                        line.Script = Encoding.Unicode.GetString(Convert.FromBase64String(Next(arguments, ref i)));
                        break;
                    case "-command":
                        line.Script = string.Join(" ", arguments.Skip(i + 1));
                        return line.Checked();
                    case "-file":
                        line.File = Paths.Normal(Next(arguments, ref i));
                        line.FileArguments.AddRange(arguments.Skip(i + 1));
                        return line.Checked();
                    default:
                        throw new StandInException("powershell.exe: unknown argument '" + arguments[i] + "'");
                }
            }
            return line.Checked();
        }

        CommandLine Checked()
        {
            if (Script == null && File == null)
                throw new StandInException("powershell.exe: neither -Command nor -EncodedCommand nor -File");
            return this;
        }

        static string Next(IList<string> arguments, ref int index)
        {
            if (++index >= arguments.Count)
                throw new StandInException("powershell.exe: '" + arguments[index - 1] + "' needs a value");
            return arguments[index];
        }

        // Adds -Name value pairs, switches and positional values to a command, as powershell.exe does after -File.
        public void AddTo(PowerShell shell)
        {
            shell.AddCommand(File);
            for (var i = 0; i < FileArguments.Count; i++)
            {
                var text = FileArguments[i];
                if (text.Length < 2 || text[0] != '-' || !char.IsLetter(text[1])) { shell.AddArgument(text); continue; }
                var hasValue = i + 1 < FileArguments.Count && !(FileArguments[i + 1].Length > 1
                    && FileArguments[i + 1][0] == '-' && char.IsLetter(FileArguments[i + 1][1]));
                if (hasValue) shell.AddParameter(text.Substring(1), FileArguments[++i]);
                else shell.AddParameter(text.Substring(1));
            }
        }

        // The rules of CommandLineToArgvW: backslashes count only before a quotation mark.
        public static List<string> Split(string text)
        {
            var result = new List<string>();
            var word = new StringBuilder();
            bool quoted = false, begun = false;
            for (var i = 0; i < text.Length; i++)
            {
                var backslashes = 0;
                while (i < text.Length && text[i] == '\\') { backslashes++; i++; }
                var atQuote = i < text.Length && text[i] == '"';
                word.Append('\\', atQuote ? backslashes / 2 : backslashes);
                begun |= backslashes > 0;
                if (i >= text.Length) break;
                if (atQuote)
                {
                    begun = true;
                    if (backslashes % 2 == 1) word.Append('"');
                    else quoted = !quoted;
                }
                else if (char.IsWhiteSpace(text[i]) && !quoted)
                {
                    if (begun) result.Add(word.ToString());
                    word.Clear();
                    begun = false;
                }
                else { word.Append(text[i]); begun = true; }
            }
            if (begun) result.Add(word.ToString());
            return result;
        }
    }

    public static class Paths
    {
        // Paths of this machine, whichever separators a script used.
        public static string Normal(string path)
        {
            path = path.Replace('\\', '/');
            if (path.Length > 1 && path[1] == ':')
                throw new StandInException("a path with a drive letter: " + path
                    + " (scripts join paths to $env:SystemRoot)");
            return System.IO.Path.GetFullPath(path);
        }

        public static bool IsSystem32(string path, params string[] below) =>
            Normal(path).Equals(Path.Combine(new[] { Machine.Current.SystemRoot, "System32" }.Concat(below).ToArray()),
                StringComparison.OrdinalIgnoreCase);
    }
}
