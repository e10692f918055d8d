// The warm PowerShell: reads requests, runs each in a runspace and a thread of its own, and passes on what it writes.
using System;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;
using System.Text;
using System.Text.Json.Nodes;
using System.Threading;
using Microsoft.Win32.SafeHandles;

namespace FleetPatch.StandIns
{
    public static class Host
    {
        static readonly ConcurrentDictionary<string, Request> running = new ConcurrentDictionary<string, Request>();
        static readonly ConcurrentDictionary<string, Request> tasks = new ConcurrentDictionary<string, Request>();
        static readonly object writing = new object();
        static readonly object environment = new object();
        static readonly object power = new object();
        static StreamWriter answers;
        static InitialSessionState sessionState;
        static Dictionary<string, string> variables;
        static int busy;
        static int working;
        static bool isOff;

        public static IEnumerable<Request> Running => running.Values.Concat(tasks.Values);

        // Serves until the other end closes: then the machine has no power any more, and all that runs ends with it.
        public static void Serve(string folder, int requestsHandle, int answersHandle)
        {
            Console.SetIn(new ConsoleIn());
            Console.SetOut(new ConsoleOut(false));
            Console.SetError(new ConsoleOut(true));
            variables = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
                .ToDictionary(e => (string)e.Key, e => (string)e.Value);
            answers = new StreamWriter(Open(answersHandle, FileAccess.Write),
                new UTF8Encoding(false)) { AutoFlush = true };
            Boot(folder);
            using (var requests = new StreamReader(Open(requestsHandle, FileAccess.Read), new UTF8Encoding(false)))
            {
                for (string line; (line = requests.ReadLine()) != null;) Take(JsonNode.Parse(line).AsObject());
            }
            Environment.Exit(0);
        }

        static void Boot(string folder)
        {
            Machine.Open(folder);
            isOff = false;
            sessionState = Session.Create();
            PowerSwitch.Resume();
            Timetable.AfterBoot();
            Answer(new JsonObject { ["event"] = "ready" });
        }

        // The machine loses its power, and nothing begins any more. If nothing works for it either, its next boot or
        // another machine may have the process.
        static void Retire(int milliseconds)
        {
            SpinWait.SpinUntil(() => working == 0, milliseconds);
            Answer(new JsonObject { ["event"] = SwitchOff(0) ? "quiet" : "busy" });
        }

        // As Retire, when Windows itself does it, in a thread that works. What a login over the network has begun comes
        // to its end first.
        public static void Leave(string reason)
        {
            var isQuiet = SwitchOff(1);
            if (!isQuiet && tasks.IsEmpty)
            {
                SpinWait.SpinUntil(() => working <= 1, 2000);
                isQuiet = SwitchOff(1);
            }
            Answer(new JsonObject { ["event"] = reason, ["is_quiet"] = isQuiet });
            if (!isQuiet) Environment.Exit(0);
        }

        static bool SwitchOff(int own)
        {
            lock (power)
            {
                isOff = true;
                if (working > own || !running.IsEmpty || !tasks.IsEmpty) return false;
            }
            PowerSwitch.Forget();
            Timetable.Forget();
            MutexStandIn.Forget();
            return true;
        }

        static void Adopt(string folder, JsonObject environment)
        {
            foreach (var entry in environment) variables[entry.Key] = (string)entry.Value;
            ResetEnvironment(0);
            Boot(folder);
        }

        // What a thread does for the machine, counted from now on.
        public static ThreadStart Work(Action action)
        {
            Interlocked.Increment(ref working);
            return () =>
            {
                try { action(); }
                finally { Interlocked.Decrement(ref working); }
            };
        }

        static FileStream Open(int handle, FileAccess access) =>
            new FileStream(new SafeFileHandle((IntPtr)handle, true), access, 1);

        static void Take(JsonObject message)
        {
            if (message.ContainsKey("retire")) { Retire((int)message["retire"]); return; }
            if (message.ContainsKey("folder"))
            {
                Adopt((string)message["folder"], message["environment"].AsObject());
                return;
            }
            var id = (string)message["id"];
            if (message.ContainsKey("cancel"))
            {
                if (running.TryGetValue(id, out var old)) old.Stop();
                return;
            }
            var arguments = message["arguments"].AsArray().Select(a => (string)a).ToList();
            var request = NewRequest(id, arguments, (string)message["logon"]);
            request.In = new StringReader(new UTF8Encoding(false)
                .GetString(Convert.FromBase64String((string)message["stdin"])));
            request.Out = new StreamWriterOf(bytes => Output(id, "stdout", bytes));
            request.Err = new StreamWriterOf(bytes => Output(id, "stderr", bytes));
            lock (power)
            {
                if (isOff) return;
                running[id] = request;
            }
            Start(request, () =>
            {
                running.TryRemove(id, out _);
                Answer(new JsonObject { ["id"] = id, ["exit_code"] = request.ExitCode });
            });
        }

        static Request NewRequest(string id, IList<string> arguments, string logon)
        {
            if (logon != "network" && logon != "system") throw new StandInException("unknown logon '" + logon + "'");
            return new Request { Id = id, Arguments = arguments, Logon = logon, Pid = Processes.NextPid(),
                Started = Machine.Now };
        }

        // What a scheduled task runs: as SYSTEM. What it writes goes to a file, for whoever debugs a test.
        public static Request StartTask(string taskPath, string instance, IList<string> arguments,
            Action<Request> ended)
        {
            var request = NewRequest(instance, arguments, "system");
            request.TaskPath = taskPath;
            var log = Path.Combine(Machine.Current.Folder, "task_output.log");
            Action<byte[]> append = bytes =>
            {
                lock (tasks)
                using (var file = new FileStream(log, FileMode.Append)) file.Write(bytes, 0, bytes.Length);
            };
            request.Out = new StreamWriterOf(append);
            request.Err = new StreamWriterOf(append);
            tasks[instance] = request;
            Start(request, () => { tasks.TryRemove(instance, out _); ended(request); });
            return request;
        }

        public static Request FindTask(string instance) =>
            tasks.TryGetValue(instance, out var request) ? request : null;

        static void Output(string id, string stream, byte[] data) =>
            Answer(new JsonObject { ["id"] = id, ["stream"] = stream, ["data"] = Convert.ToBase64String(data) });

        public static void Answer(JsonObject message)
        {
            lock (writing) answers.Write(message.ToJsonString() + "\n");
        }

        static void Start(Request request, Action ended)
        {
            var ends = 0;
            request.Finish = () =>
            {
                if (Interlocked.Exchange(ref ends, 1) != 0) return;
                if (request.WasStopped) request.ExitCode = 1;
                request.End();
                request.Out.Flush();
                request.Err.Flush();
                ended();
            };
            var thread = new Thread(Work(() =>
            {
                Request.Current = request;
                try { Run(request); }
                catch (Exception error)
                {
                    request.Err.WriteLine(error is StandInException ? error.Message : error.ToString());
                    request.ExitCode = 1;
                }
                request.Finish();
            }), 16 << 20);
            thread.IsBackground = true;
            using (ExecutionContext.SuppressFlow()) thread.Start();
        }

        static void Run(Request request)
        {
            var line = CommandLine.Of(request.Arguments);
            if (line.File != null && !File.Exists(line.File))
            {
                request.Err.WriteLine("The argument '" + line.File
                    + "' to the -File parameter does not exist. Provide the path to an existing '.ps1' file as an "
                    + "argument to the -File parameter.");
                request.ExitCode = -196608;
                return;
            }
            ResetEnvironment(1);
            try
            {
                using (var runspace = RunspaceFactory.CreateRunspace(new Terminal(request), sessionState))
                {
                    runspace.ThreadOptions = PSThreadOptions.UseCurrentThread;
                    runspace.Open();
                    Runspace.DefaultRunspace = runspace;
                    Session.Prepare(runspace, request);
                    using (var shell = PowerShell.Create())
                    {
                        shell.Runspace = runspace;
                        request.Shell = shell;
                        Invoke(request, shell, line);
                        request.Shell = null;
                    }
                }
            }
            finally { ResetEnvironment(-1); }
        }

        static void Invoke(Request request, PowerShell shell, CommandLine line)
        {
            if (line.File != null) line.AddTo(shell);
            else shell.AddScript(line.Script);
            shell.Commands.Commands[0].MergeMyResults(PipelineResultTypes.Error, PipelineResultTypes.Output);
            shell.AddCommand("Out-Default");
            var failed = false;
            try
            {
                request.ThrowIfStopped();
                // what is not for the history is not traced
                shell.Invoke(null, new PSInvocationSettings { AddToHistory = Coverage.IsOn });
            }
            catch (PipelineStoppedException) { failed = true; }
            catch (RuntimeException error)
            {
                failed = true;
                Report(request, shell.Runspace, error);
            }
            if (request.ExitCode == null && !failed && line.File != null)
                request.ExitCode = Session.LastExitCode(shell.Runspace);
            if (request.ExitCode == null) request.ExitCode = failed ? 1 : 0;
        }

        static void Report(Request request, Runspace runspace, RuntimeException error)
        {
            using (var shell = PowerShell.Create())
            {
                shell.Runspace = runspace;
                shell.AddCommand("Out-String").AddParameter("InputObject", error.ErrorRecord);
                foreach (var text in shell.Invoke<string>()) request.Err.Write(text.TrimEnd() + "\r\n");
            }
        }

        // Variables that a script sets are gone with its process; here the process stays, so they are put back when
        // no request runs any more.
        static void ResetEnvironment(int change)
        {
            lock (environment)
            {
                busy += change;
                if (busy != 0) return;
                foreach (DictionaryEntry entry in Environment.GetEnvironmentVariables())
                    if (!variables.ContainsKey((string)entry.Key))
                        Environment.SetEnvironmentVariable((string)entry.Key, null);
                foreach (var entry in variables) Environment.SetEnvironmentVariable(entry.Key, entry.Value);
            }
        }
    }
}
