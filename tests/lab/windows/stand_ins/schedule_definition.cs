// Schedule.Service: what a task is made of. Values are checked when a task is registered (schedule.cs).
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    [Com("ITaskDefinition")]
    public sealed class TaskDefinition : ComObject
    {
        public RegistrationInfo RegistrationInfo { get; } = new RegistrationInfo();
        public TriggerCollection Triggers { get; } = new TriggerCollection();
        public TaskSettings Settings { get; } = new TaskSettings();
        public TaskPrincipal Principal { get; } = new TaskPrincipal();
        public ActionCollection Actions { get; } = new ActionCollection();
        public string Data { get; set; } = "";
    }

    [Com("IRegistrationInfo")]
    public sealed class RegistrationInfo : ComObject
    {
        public string Description { get; set; } = "";
        public string Author { get; set; } = "";
        public string Date { get; set; } = "";
        public string Documentation { get; set; } = "";
        public string Source { get; set; } = "";
        public string Version { get; set; } = "";
        public string URI { get; set; } = "";
    }

    [Com("IPrincipal")]
    public sealed class TaskPrincipal : ComObject
    {
        public string Id { get; set; } = "";
        public string DisplayName { get; set; } = "";
        public string UserId { get; set; } = "";
        public string GroupId { get; set; } = "";
        public int LogonType { get; set; }
        public int RunLevel { get; set; }
    }

    // With the defaults of Windows, which stop a task after three days and do not start it on batteries.
    [Com("ITaskSettings")]
    public sealed class TaskSettings : ComObject
    {
        public bool AllowDemandStart { get; set; } = true;
        public bool AllowHardTerminate { get; set; } = true;
        public int Compatibility { get; set; } = 2;
        public string DeleteExpiredTaskAfter { get; set; } = "";
        public bool DisallowStartIfOnBatteries { get; set; } = true;
        public bool Enabled { get; set; } = true;
        public string ExecutionTimeLimit { get; set; } = "PT72H";
        public bool Hidden { get; set; }
        public IdleSettings IdleSettings { get; } = new IdleSettings();
        public int MultipleInstances { get; set; } = 2;
        public int Priority { get; set; } = 7;
        public int RestartCount { get; set; }
        public string RestartInterval { get; set; } = "";
        public bool RunOnlyIfIdle { get; set; }
        public bool RunOnlyIfNetworkAvailable { get; set; }
        public bool StartWhenAvailable { get; set; }
        public bool StopIfGoingOnBatteries { get; set; } = true;
        public bool WakeToRun { get; set; }
    }

    [Com("IIdleSettings")]
    public sealed class IdleSettings : ComObject
    {
        public string IdleDuration { get; set; } = "PT10M";
        public string WaitTimeout { get; set; } = "PT1H";
        public bool StopOnIdleEnd { get; set; } = true;
        public bool RestartOnIdle { get; set; }
    }

    [Com("ITriggerCollection")]
    public sealed class TriggerCollection : ComObject, System.Collections.IEnumerable
    {
        readonly List<TimeTrigger> items = new List<TimeTrigger>();
        public int Count => items.Count;
        public TimeTrigger Item(int index) => items[index - 1];  // counted from 1
        public void Clear() => items.Clear();
        public System.Collections.IEnumerator GetEnumerator() => items.GetEnumerator();

        public TimeTrigger Create(int type)
        {
            if (type != 1) throw new StandInException("only triggers of type 1 (at a time)");
            items.Add(new TimeTrigger());
            return items.Last();
        }

        internal IReadOnlyList<TimeTrigger> All => items;
    }

    [Com("ITrigger", "ITimeTrigger")]
    public sealed class TimeTrigger : ComObject
    {
        public int Type => 1;
        public string Id { get; set; } = "";
        public bool Enabled { get; set; } = true;
        public string StartBoundary { get; set; } = "";
        public RepetitionPattern Repetition { get; } = new RepetitionPattern();

        // Seconds since the epoch. Without a zone it is local time, as there.
        internal double Seconds
        {
            get
            {
                const DateTimeStyles Styles = DateTimeStyles.AdjustToUniversal | DateTimeStyles.AssumeLocal;
                var formats = new[] { "yyyy-MM-ddTHH:mm:ssK", "yyyy-MM-ddTHH:mm:ss" };
                if (DateTime.TryParseExact(StartBoundary, formats, CultureInfo.InvariantCulture,
                    Styles, out var time))
                    return Machine.ToEpoch(time);
                throw ComError.Of(0x80041318,
                    "The task XML contains a value which is incorrectly formatted or out of range: " + StartBoundary);
            }
        }
    }

    // Without a duration, for ever.
    [Com("IRepetitionPattern")]
    public sealed class RepetitionPattern : ComObject
    {
        public string Duration { get; set; } = "";
        public string Interval { get; set; } = "";
        public bool StopAtDurationEnd { get; set; }

        internal double? Seconds
        {
            get
            {
                if (Interval == "") return null;
                if (Duration != "" || StopAtDurationEnd) throw new StandInException("a repetition with an end");
                var every = System.Xml.XmlConvert.ToTimeSpan(Interval).TotalSeconds;
                if (every < 60 || every > 31 * 86400)  // one minute to 31 days, as documented
                    throw ComError.Of(0x80041318,
                        "The task XML contains a value which is incorrectly formatted or out of range: " + Interval);
                return every;
            }
        }
    }

    [Com("IAction", "IExecAction")]
    public sealed class ExecAction : ComObject
    {
        public string Id { get; set; } = "";
        public int Type => 0;
        public string Path { get; set; } = "";
        public string Arguments { get; set; } = "";
        public string WorkingDirectory { get; set; } = "";
    }

    [Com("IActionCollection")]
    public sealed class ActionCollection : ComObject, System.Collections.IEnumerable
    {
        readonly List<ExecAction> items = new List<ExecAction>();
        public int Count => items.Count;
        public ExecAction Item(int index) => items[index - 1];  // counted from 1
        public string Context { get; set; } = "";
        public void Clear() => items.Clear();
        public System.Collections.IEnumerator GetEnumerator() => items.GetEnumerator();

        public ExecAction Create(int type)
        {
            if (type != 0) throw new StandInException("only actions of type 0 (a program)");
            items.Add(new ExecAction());
            return items.Last();
        }

        internal IReadOnlyList<ExecAction> All => items;
    }

    // A registered task's definition in state.json.
    static class TaskRecord
    {
        public static JsonObject Of(TaskDefinition definition) => new JsonObject
        {
            ["user"] = definition.Principal.UserId,
            ["logon_type"] = definition.Principal.LogonType,
            ["run_level"] = definition.Principal.RunLevel,
            ["path"] = definition.Actions.All[0].Path,
            ["arguments"] = definition.Actions.All[0].Arguments,
            ["description"] = definition.RegistrationInfo.Description,
            ["time_limit"] = definition.Settings.ExecutionTimeLimit,
            ["on_batteries"] = !definition.Settings.DisallowStartIfOnBatteries
                && !definition.Settings.StopIfGoingOnBatteries,
            ["priority"] = definition.Settings.Priority,
            ["multiple_instances"] = definition.Settings.MultipleInstances,
            ["enabled"] = definition.Settings.Enabled,
            ["last_result"] = 0x41303,
            ["last_run"] = null,
            ["runs"] = 0,
            ["instance"] = null,
            ["start_at"] = definition.Triggers.Count == 0 ? null : (JsonNode)definition.Triggers.All[0].Seconds,
            ["repeat"] = definition.Triggers.Count == 0 ? null : (JsonNode)definition.Triggers.All[0].Repetition.Seconds,
            ["start_late"] = definition.Settings.StartWhenAvailable,
        };

        public static TaskDefinition Definition(JsonNode task)
        {
            var definition = new TaskDefinition();
            definition.Principal.UserId = Json.Text(task, "user");
            definition.Principal.LogonType = (int)Json.Number(task, "logon_type");
            definition.Principal.RunLevel = (int)Json.Number(task, "run_level");
            var action = definition.Actions.Create(0);
            action.Path = Json.Text(task, "path");
            action.Arguments = Json.Text(task, "arguments");
            definition.RegistrationInfo.Description = Json.Text(task, "description");
            definition.Settings.ExecutionTimeLimit = Json.Text(task, "time_limit");
            definition.Settings.Priority = (int)Json.Number(task, "priority");
            definition.Settings.Enabled = Json.Flag(task, "enabled");
            return definition;
        }
    }
}
