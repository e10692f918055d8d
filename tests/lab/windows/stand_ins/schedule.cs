// Schedule.Service: folders, tasks and what runs of them. Tasks are in state.json; a run is a request of the host.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace FleetPatch.StandIns
{
    [Com("ITaskService")]
    public sealed class TaskService : ComObject
    {
        bool connected;
        public bool Connected => connected;
        public uint HighestVersion => 0x10006;
        public string TargetServer => Json.Text(Machine.Current.Scenario, "name");

        public void Connect(object server = null, object user = null, object domain = null, object password = null)
        {
            if (server != null && Convert.ToString(server) != "")
                throw new StandInException("Schedule.Service of another computer");
            var error = Json.Number(Machine.Current.Scenario, "task_scheduler_error");
            if (error != 0) throw ComError.Of((uint)error);
            connected = true;
        }

        void Need()
        {
            if (!connected)
                throw ComError.Of(0x80070015,
                    "The Task Scheduler service is not connected. (Exception from HRESULT: 0x80070015)");
        }

        public TaskDefinition NewTask(uint flags)
        {
            Need();
            if (flags != 0) throw ComError.Of(0x80070057, "The flags parameter is reserved and must be 0.");
            return new TaskDefinition();
        }

        public TaskFolder GetFolder(string path)
        {
            Need();
            if (path != "\\")
                throw ComError.Of(0x80070002,
                    "The system cannot find the file specified. (Exception from HRESULT: 0x80070002)");
            return new TaskFolder();
        }

        public RunningTaskCollection GetRunningTasks(int flags)
        {
            Need();
            return new RunningTaskCollection(TaskFolder.Names().SelectMany(n => new RegisteredTask(n).Instances()));
        }
    }

    [Com("ITaskFolder")]
    public sealed class TaskFolder : ComObject
    {
        public string Name => "\\";
        public string Path => "\\";

        internal static List<string> Names() => Machine.Current.Read(s =>
            s["tasks"].AsObject().Select(t => t.Key).ToList());

        static string Checked(string name)
        {
            name = (name ?? "").TrimStart('\\');
            if (name == "" || !Regex.IsMatch(name, @"^[^\\/:*?""<>|]{1,200}$"))
                throw ComError.Of(0x8007007B, "The filename, directory name, or volume label syntax is incorrect.");
            return name;
        }

        static string Known(string name)
        {
            name = Checked(name);
            if (Names().Contains(name, StringComparer.OrdinalIgnoreCase)) return name;
            throw ComError.Of(0x80070002,
                "The system cannot find the file specified. (Exception from HRESULT: 0x80070002)");
        }

        public RegisteredTask GetTask(string path) => new RegisteredTask(Known(path));

        public RegisteredTaskCollection GetTasks(int flags) =>
            new RegisteredTaskCollection(Names().Select(n => new RegisteredTask(n)));

        // Deleting a task does not stop what runs of it.
        public void DeleteTask(string name, int flags)
        {
            name = Known(name);
            Machine.Current.Change(s => { s["tasks"].AsObject().Remove(name); });
        }

        public RegisteredTask RegisterTaskDefinition(string path, TaskDefinition definition, int flags, object user,
            object password, int logonType, object sddl = null)
        {
            var name = Checked(path);
            if (definition == null) throw ComError.Of(0x80004003, "Invalid pointer");
            if (flags != 2 && flags != 4 && flags != 6)
                throw new StandInException("RegisterTaskDefinition: flags " + flags);
            var given = user == null || Convert.ToString(user) == "" ? definition.Principal.UserId
                : Convert.ToString(user);
            if (!Regex.IsMatch(given, @"^(S-1-5-18|(NT AUTHORITY\\)?SYSTEM)$", RegexOptions.IgnoreCase)
                || logonType != 5)
                throw new StandInException("only tasks of SYSTEM with logon type 5 (a service account), not '" + given
                    + "' with " + logonType);
            if (password != null) throw ComError.Of(0x80070057, "SYSTEM has no password.");
            if (definition.Principal.LogonType != 5 && definition.Principal.LogonType != 0)
                throw ComError.Of(0x80070057, "The logon types differ.");
            if (definition.Actions.Count != 1)
                throw ComError.Of(0x8004131A, "The task XML is malformed: one action is expected.");
            if (definition.Actions.All[0].Path == "")
                throw ComError.Of(0x8004131A, "The task XML is missing a required element or attribute.");
            if (definition.Triggers.Count > 1)
                throw new StandInException("a task with " + definition.Triggers.Count + " triggers");
            Interval(definition.Settings.ExecutionTimeLimit);
            var record = TaskRecord.Of(definition);
            record["user"] = "S-1-5-18";
            Machine.Current.Change(s =>
            {
                var tasks = s["tasks"].AsObject();
                if (flags == 2 && tasks.ContainsKey(name))
                    throw ComError.Of(0x800700B7,
                        "Cannot create a file when that file already exists. (Exception from HRESULT: 0x800700B7)");
                if (flags == 4 && !tasks.ContainsKey(name))
                    throw ComError.Of(0x80070002, "The system cannot find the file specified.");
                tasks[name] = record;
            });
            Timetable.Plan();
            return new RegisteredTask(name);
        }

        static void Interval(string text)
        {
            if (!Regex.IsMatch(text, @"^P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?$") || text == "P" || text == "PT")
                throw ComError.Of(0x80041318,
                    "The task XML contains a value which is incorrectly formatted or out of range: " + text);
        }
    }

    [Com("IRegisteredTask")]
    public sealed class RegisteredTask : ComObject
    {
        const int Queued = 2, Ready = 3, Active = 4;

        internal RegisteredTask(string name) { Name = name; }

        public string Name { get; }
        public string Path => "\\" + Name;

        JsonNode In(JsonObject state)
        {
            if (state["tasks"].AsObject().TryGetPropertyValue(Name, out var task)) return task;
            throw ComError.Of(0x80070002,
                "The system cannot find the file specified. (Exception from HRESULT: 0x80070002)");
        }

        T Field<T>(Func<JsonNode, T> look) => Machine.Current.Read(s => look(In(s)));

        public int State => !Enabled ? 1 : Instances().Any() ? Active : Ready;
        public int LastTaskResult => Field(t => (int)Json.Number(t, "last_result"));
        public int NumberOfMissedRuns => 0;
        public DateTime LastRunTime => Field(t => t["last_run"] == null ? new DateTime(1999, 11, 30)
            : Machine.FromEpoch(Json.Real(t, "last_run")).ToLocalTime());
        public DateTime NextRunTime => new DateTime(1899, 12, 30);
        public TaskDefinition Definition => Field(TaskRecord.Definition);

        public bool Enabled
        {
            get => Field(t => Json.Flag(t, "enabled"));
            set => Machine.Current.Change(s => { In(s)["enabled"] = value; });
        }

        internal IEnumerable<RunningTask> Instances()
        {
            var instance = Field(t => (string)t["instance"]);
            var request = instance == null ? null : Host.FindTask(instance);
            return request == null ? Enumerable.Empty<RunningTask>()
                : new[] { new RunningTask(Name, instance, request) };
        }

        public RunningTaskCollection GetInstances(int flags) => new RunningTaskCollection(Instances());

        public RunningTask Run(object parameters) => RunEx(parameters, 0, 0, "");

        public RunningTask RunEx(object parameters, int flags, int sessionID, string user)
        {
            if (parameters != null || sessionID != 0 || !string.IsNullOrEmpty(user))
                throw new StandInException("RunEx with parameters, a session or a user");
            if ((flags & ~2) != 0) throw new StandInException("RunEx: flags " + flags);
            PowerSwitch.ThrowIfShuttingDown();
            if (!Enabled) throw ComError.Of(0x80041326, "The task is disabled.");
            if (flags == 0 && !Field(t => Json.Flag(t, "on_batteries"))
                && Json.Flag(Machine.Current.Scenario, "on_battery"))
                return null;
            if (Instances().Any()) return null;  // as "do not start a new instance" says
            var program = Field(t => Json.Text(t, "path")).Trim('"');
            var arguments = CommandLine.Split(Field(t => Json.Text(t, "arguments")));
            if (!Paths.IsSystem32(program, "WindowsPowerShell", "v1.0", "powershell.exe"))
                throw new StandInException("a task runs only powershell.exe of System32, not " + program);
            var instance = "{" + Guid.NewGuid() + "}";
            Machine.Current.Change(s =>
            {
                var task = In(s);
                task["instance"] = instance;
                task["last_result"] = 0x41301;
                task["last_run"] = Machine.Now;
                task["runs"] = (int)task["runs"] + 1;
            });
            // What stops a process before it runs its command line: AppLocker, a virus scanner. It ends with that code.
            var stopped = Machine.Current.Read(s => Json.Number(s, "task_stopped"));
            if (stopped != 0)
            {
                Machine.Current.Change(s => { In(s)["instance"] = null; In(s)["last_result"] = stopped; });
                return new RunningTask(Name, instance, null);
            }
            var request = Host.StartTask(Path, instance, arguments, Ended);
            return new RunningTask(Name, instance, request);
        }

        void Ended(Request request)
        {
            Machine.Current.Change(s =>
            {
                if (!s["tasks"].AsObject().TryGetPropertyValue(Name, out var task)
                    || (string)task["instance"] != request.Id)
                    return;
                task["instance"] = null;
                task["last_result"] = request.WasStopped ? 0x41306 : request.ExitCode;
            });
        }

        public void Stop(int flags) { foreach (var instance in Instances()) instance.Stop(); }
    }

    // Starts tasks at their time; those whose time passed while the machine was off, if they want that, after the boot.
    static class Timetable
    {
        static System.Threading.Timer timer;

        public static void Forget() => timer?.Dispose();

        public static void AfterBoot()
        {
            Machine.Current.Change(s =>
            {
                foreach (var task in s["tasks"].AsObject().Select(t => t.Value).Where(t => t["start_at"] != null))
                    if (Json.Real(task, "start_at") < Machine.Now && !Json.Flag(task, "start_late"))
                        task["start_at"] = null;
            });
            Plan();
        }

        public static void Plan()
        {
            var next = Machine.Current.Read(s => s["tasks"].AsObject().Where(t => t.Value["start_at"] != null)
                .Select(t => Json.Real(t.Value, "start_at")).DefaultIfEmpty(0).Min());
            if (next == 0) return;
            timer = Later.Run(Run, Math.Max(0, (next - Machine.Now) * 1000));
        }

        static void Run()
        {
            var due = Machine.Current.Change(s => s["tasks"].AsObject()
                .Where(t => t.Value["start_at"] != null && Json.Real(t.Value, "start_at") <= Machine.Now).Select(t =>
            {
                var at = Json.Real(t.Value, "start_at");
                t.Value["start_at"] = t.Value["repeat"] == null ? null
                    : (JsonNode)(at + Math.Ceiling((Machine.Now - at) / Json.Real(t.Value, "repeat") + 0.001)
                        * Json.Real(t.Value, "repeat"));
                return t.Key;
            }).ToList());
            foreach (var name in due)
            {
                try { new RegisteredTask(name).RunEx(null, 2, 0, ""); }
                catch (COMException) { }  // deleted or disabled meanwhile
                catch (StandInException) { }  // a test reads of it in stand_in_errors.log
            }
            Plan();
        }
    }

    [Com("IRunningTask")]
    public sealed class RunningTask : ComObject
    {
        readonly Request request;

        internal RunningTask(string name, string instance, Request request)
        {
            Name = name;
            InstanceGuid = instance;
            this.request = request;
        }

        public string Name { get; }
        public string Path => "\\" + Name;
        public string InstanceGuid { get; }
        public string CurrentAction => "powershell.exe";
        public uint EnginePID => (uint)Alive().Pid;
        public int State => Alive() == null ? 0 : 4;
        public void Refresh() => Alive();
        public void Stop() => Alive().Stop();

        Request Alive()
        {
            if (Host.FindTask(InstanceGuid) != null) return request;
            throw ComError.Of(0x8004130B,
                "There is no running instance of the task. (Exception from HRESULT: 0x8004130B)");
        }
    }

    [Com("IRunningTaskCollection")]
    public sealed class RunningTaskCollection : ComObject, System.Collections.IEnumerable
    {
        readonly List<RunningTask> items;
        internal RunningTaskCollection(IEnumerable<RunningTask> items) { this.items = items.ToList(); }
        public int Count => items.Count;
        public RunningTask Item(int index) => items[index - 1];  // counted from 1
        public System.Collections.IEnumerator GetEnumerator() => items.GetEnumerator();
    }

    [Com("IRegisteredTaskCollection")]
    public sealed class RegisteredTaskCollection : ComObject, System.Collections.IEnumerable
    {
        readonly List<RegisteredTask> items;
        internal RegisteredTaskCollection(IEnumerable<RegisteredTask> items) { this.items = items.ToList(); }
        public int Count => items.Count;
        public RegisteredTask Item(int index) => items[index - 1];  // counted from 1
        public System.Collections.IEnumerator GetEnumerator() => items.GetEnumerator();
    }
}
