// One call of powershell.exe: its arguments, its standard streams, who called it, and the runspace that runs it.
using System;
using System.Collections.Generic;
using System.IO;
using System.Management.Automation;
using System.Text;
using System.Threading;

namespace FleetPatch.StandIns
{
    public sealed class Request
    {
        Timer timer;
        static readonly AsyncLocal<Request> current = new AsyncLocal<Request>();
        readonly List<Action> atEnd = new List<Action>();

        public static Request Current { get => current.Value; set => current.Value = value; }

        public string Id { get; set; }
        public IList<string> Arguments { get; set; }
        public TextReader In { get; set; } = new StringReader("");
        public StreamWriterOf Out { get; set; }
        public StreamWriterOf Err { get; set; }
        public string Logon { get; set; }
        public int Pid { get; set; }
        public double Started { get; set; }
        public string TaskPath { get; set; }
        public int? ExitCode { get; set; }
        public PowerShell Shell { get; set; }
        public CancellationTokenSource Stopped { get; } = new CancellationTokenSource();

        public bool IsNetworkLogon => Logon == "network";

        public void ThrowIfStopped()
        {
            if (Stopped.IsCancellationRequested) throw new PipelineStoppedException();
        }

        public bool WasStopped { get; private set; }

        public Action Finish { get; set; }

        // As the end of a process: what its thread does not notice it has ended soon goes on unseen.
        public void Stop()
        {
            WasStopped = true;
            Stopped.Cancel();
            var shell = Shell;
            if (shell != null) shell.BeginStop(null, null);
            timer = Later.Run(Finish, 2000);
        }

        public void AtEnd(Action action) { lock (atEnd) atEnd.Add(action); }

        // What it began in threads of its own ends with it, as with a process.
        public void End()
        {
            Stopped.Cancel();
            lock (atEnd) foreach (var action in atEnd) action();
        }
    }

    // Passes text on as UTF-8 whenever a line is complete, with the ends of lines that Windows writes.
    public sealed class StreamWriterOf : TextWriter
    {
        readonly StringBuilder pending = new StringBuilder();
        readonly Action<byte[]> send;

        public StreamWriterOf(Action<byte[]> send) { this.send = send; CoreNewLine = "\r\n".ToCharArray(); }

        public override Encoding Encoding => new UTF8Encoding(false);

        public override void Write(char value) => Write(value.ToString());

        public override void Write(char[] buffer, int index, int count) => Write(new string(buffer, index, count));

        public override void Write(string value)
        {
            if (string.IsNullOrEmpty(value)) return;
            lock (pending)
            {
                pending.Append(value);
                if (value.IndexOf('\n') >= 0 || pending.Length > 8192) Flush();
            }
        }

        public override void WriteLine() => Write("\r\n");

        public override void WriteLine(string value) => Write(value + "\r\n");

        public override void Flush()
        {
            lock (pending)
            {
                if (pending.Length == 0) return;
                var bytes = Encoding.GetBytes(pending.ToString());
                pending.Clear();
                send(bytes);
            }
        }
    }

    // [Console] belongs to the whole process: these pass each call on to the request whose thread makes it.
    public sealed class ConsoleIn : TextReader
    {
        static TextReader Real => Request.Current?.In ?? TextReader.Null;
        public override int Peek() => Real.Peek();
        public override int Read() => Real.Read();
        public override int Read(char[] buffer, int index, int count) => Real.Read(buffer, index, count);
        public override string ReadLine() => Real.ReadLine();
        public override string ReadToEnd() => Real.ReadToEnd();
    }

    public sealed class ConsoleOut : TextWriter
    {
        readonly bool isError;
        public ConsoleOut(bool isError) { this.isError = isError; }
        TextWriter Real => Request.Current == null ? Null : isError ? Request.Current.Err : Request.Current.Out;
        public override Encoding Encoding => new UTF8Encoding(false);
        public override void Write(char value) => Real.Write(value);
        public override void Write(string value) => Real.Write(value);
        public override void Write(char[] buffer, int index, int count) => Real.Write(buffer, index, count);
        public override void WriteLine() => Real.WriteLine();
        public override void WriteLine(string value) => Real.WriteLine(value);
        public override void Flush() => Real.Flush();
    }
}
