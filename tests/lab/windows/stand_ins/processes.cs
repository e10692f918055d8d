// Processes of this machine: the requests that run, and what the scenario says runs beside them.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    public sealed class ProcessStandIn
    {
        readonly Request request;

        public ProcessStandIn(Request request) : this(request.Pid, "powershell",
            request.Started) { this.request = request; }

        public ProcessStandIn(int id, string name, double started)
        {
            Id = id;
            ProcessName = name;
            StartTime = Machine.FromEpoch(started).ToLocalTime();
        }

        // What it does: "" (it computes), "nothing", "disk" (it reads, and computes nothing) or "turns" (it computes
        // once in four seconds).
        public string Work { get; set; } = "";
        public ulong ProcessorTime => (ulong)(1e7 * (Work == "" ? Machine.Now  // in 100 ns
            : Work == "turns" ? Math.Floor(Machine.Now / 4) : 0));
        public ulong TransferredBytes => Work == "disk" ? (ulong)(Machine.Now * 1e6) : 0;
        public int Id { get; }
        public string ProcessName { get; }
        public string Name => ProcessName;
        public DateTime StartTime { get; }
        public bool HasExited => Processes.All().All(p => p.Id != Id || p.StartTime != StartTime);

        public void Kill()
        {
            if (request != null) { request.Stop(); return; }
            Machine.Current.Change(s =>
            {
                var all = s["processes"].AsArray();
                foreach (var gone in all.Where(p => (int)p["pid"] == Id).ToList()) all.Remove(gone);
            });
        }
    }

    public static class Processes
    {
        // The real cmdlet's own exception, without a reference for the compiler to an assembly beside the default ones.
        static readonly Type failure = Type.GetType(
            "Microsoft.PowerShell.Commands.ProcessCommandException, Microsoft.PowerShell.Commands.Management", true);

        public static Exception Failure(string text) => (Exception)Activator.CreateInstance(failure, text);

        public static int NextPid() => Machine.Current.Change(s =>
        {
            var pid = (int)s["next_pid"];
            s["next_pid"] = pid + 4;  // Windows counts in fours
            return pid;
        });

        public static List<ProcessStandIn> All()
        {
            var result = Host.Running.Select(r => new ProcessStandIn(r)).ToList();
            result.AddRange(Machine.Current.Read(s => s["processes"].AsArray().Select(p =>
                new ProcessStandIn((int)p["pid"], Json.Text(p, "name"), Json.Real(p, "start"))
                { Work = (string)p["work"] ?? "" }).ToList()));
            if (Machine.Current.Read(s => Servicing.IsBusy(s)))
                result.Add(new ProcessStandIn(1096, "TiWorker", Machine.Current.BootTime));
            return result;
        }
    }

    // CBS at work: for some seconds after a boot, or while another updater installs.
    public static class Servicing
    {
        const string Key = @"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Interface";

        // It tells this in the registry: 2 while it works, 1 while a reboot is pending.
        public static bool IsFlag(string key, string name) => key.Equals(Key, StringComparison.OrdinalIgnoreCase)
            && name.Equals("ServicingInProgress", StringComparison.OrdinalIgnoreCase);

        // What a test has set counts as well.
        public static object Flag(JsonObject state, object set) =>
            IsBusy(state) ? 2 : !set.Equals(0) ? set : Json.Flag(state, "reboot_required") ? 1 : 0;

        public static bool IsBusy(JsonObject state) => (double)state["servicing_until"] > Machine.Now;
    }
}

// Of the real cmdlets' names: error ids end with them.
namespace Microsoft.PowerShell.Commands
{
    using FleetPatch.StandIns;

    [Cmdlet(VerbsCommon.Get, "FpProcessStandIn", DefaultParameterSetName = "Name")]
    [StandsInFor("Get-Process")]
    public sealed class GetProcessCommand : PSCmdlet
    {
        [Parameter(Position = 0, ParameterSetName = "Name")]
        public string[] Name { get; set; }

        [Parameter(Mandatory = true, ParameterSetName = "Id")]
        public int[] Id { get; set; }

        protected override void ProcessRecord()
        {
            var all = Processes.All();
            if (ParameterSetName == "Id")
            {
                foreach (var id in Id)
                    Write(all.Where(p => p.Id == id), id.ToString(), "process identifier", "NoProcessFoundForGivenId");
                return;
            }
            foreach (var name in Name ?? new[] { "*" })
            {
                var pattern = new WildcardPattern(name, WildcardOptions.IgnoreCase);
                var hits = all.Where(p => pattern.IsMatch(p.ProcessName));
                if (WildcardPattern.ContainsWildcardCharacters(name)) WriteObject(hits, true);
                else Write(hits, name, "name", "NoProcessFoundForGivenName");
            }
        }

        void Write(IEnumerable<ProcessStandIn> hits, string asked, string what, string error)
        {
            var found = hits.ToList();
            if (found.Count > 0) { WriteObject(found, true); return; }
            var text = "Cannot find a process with the " + what + " " + (what == "name" ? "\"" + asked + "\"" : asked)
                + ". Verify the process " + what + " and call the cmdlet again.";
            WriteError(new ErrorRecord(Processes.Failure(text), error, ErrorCategory.ObjectNotFound, asked));
        }
    }

    [Cmdlet(VerbsLifecycle.Stop, "FpProcessStandIn", DefaultParameterSetName = "Id")]
    [StandsInFor("Stop-Process")]
    public sealed class StopProcessCommand : PSCmdlet
    {
        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Id")]
        public int[] Id { get; set; }

        [Parameter(Mandatory = true, ParameterSetName = "InputObject", ValueFromPipeline = true)]
        public ProcessStandIn[] InputObject { get; set; }

        [Parameter]
        public SwitchParameter Force { get; set; }

        protected override void ProcessRecord()
        {
            if (InputObject != null) { foreach (var process in InputObject) process.Kill(); return; }
            foreach (var id in Id)
            {
                var process = Processes.All().FirstOrDefault(p => p.Id == id);
                if (process != null) { process.Kill(); continue; }
                WriteError(new ErrorRecord(Processes.Failure("Cannot find a process with the process identifier " + id
                    + "."),
                    "NoProcessFoundForGivenId", ErrorCategory.ObjectNotFound, id));
            }
        }
    }
}
