// Services: state.json has them, and keeps what Start-Service and the like did to them.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;
using System.Threading;

namespace FleetPatch.StandIns
{
    public enum ServiceControllerStatus
    {
        Stopped = 1, StartPending, StopPending, Running, ContinuePending, PausePending, Paused,
    }

    public sealed class ServiceStandIn
    {
        public ServiceStandIn(string name) { Name = name; }

        public string Name { get; }
        public string ServiceName => Name;
        public string DisplayName => Services.Text(Name, "display_name");
        public ServiceControllerStatus Status => Enum.Parse<ServiceControllerStatus>(Services.StateOf(Name).Status);
        // No StartType: .NET before 4.6.1 (Server 2012 R2) lacks it, and it fails for services that may not be opened.
        public bool CanStop => Status == ServiceControllerStatus.Running;
        public ServiceStandIn[] DependentServices => new ServiceStandIn[0];
        public ServiceStandIn[] ServicesDependedOn => new ServiceStandIn[0];
        public void Refresh() { }
        public void Close() { }
        public void Dispose() { }
        public override string ToString() => Name;

        public void WaitForStatus(ServiceControllerStatus wanted, TimeSpan timeout)
        {
            if (Status != wanted)
                throw new TimeoutException("Time out has expired and the operation has not been completed.");
        }
    }

    public static class Services
    {
        static JsonNode Find(JsonObject state, string name) =>
            state["services"].AsArray().FirstOrDefault(s =>
                Json.Text(s, "name").Equals(name, StringComparison.OrdinalIgnoreCase));

        public static string Text(string name, string field) =>
            Machine.Current.Read(s => Json.Text(Find(s, name), field));

        public static List<ServiceStandIn> All() =>
            Machine.Current.Read(s => s["services"].AsArray().Select(n => new ServiceStandIn(Json.Text(n, "name")))
                .ToList());

        public static bool Exists(string name) => Machine.Current.Read(s => Find(s, name) != null);

        // Its status, and its exit code as Win32_Service has it: 0 while it runs, and after an end without an error;
        // 1077 if it was not started since the boot. One with a delayed start has both only when its time has come.
        public static (string Status, uint ExitCode) StateOf(string name) => Machine.Current.Read(s =>
        {
            var service = Find(s, name);
            return Json.Real(service, "starts_at") > Machine.Now ? ("Stopped", 1077u)
                : (Json.Text(service, "status"), (uint)Json.Number(service, "exit_code"));
        });

        // The number of a service's process: 0 while it does not run.
        public static int ProcessOf(string name) => StateOf(name).Status != "Running" ? 0
            : Machine.Current.Read(s => 600 + 4 * s["services"].AsArray().IndexOf(Find(s, name)));

        // The processes of those that run. Each start begins another one.
        public static IEnumerable<ProcessStandIn> Processes() => All().Where(s => ProcessOf(s.Name) != 0).Select(s =>
            new ProcessStandIn(ProcessOf(s.Name), s.Name, Machine.Current.BootTime
                + Machine.Current.Read(state => Json.Real(Find(state, s.Name), "starts"))));

        // Returns why it did not work, or null.
        public static string Set(string name, string status) => Machine.Current.Change(state =>
        {
            var service = Find(state, name);
            if (status == "Running" && Json.Text(service, "start_type") == "Disabled")
                return "the service cannot be started, either because it is disabled or because it has no enabled "
                    + "devices associated with it";
            if (status == "Running" && Json.Flag(service, "start_fails"))
                return "the service did not respond to the start or control request in a timely fashion";
            service["status"] = status;
            service["starts_at"] = 0;
            service["exit_code"] = 0;
            if (status == "Running") service["starts"] = (int)service["starts"] + 1;
            return null;
        });
    }
}

// Of the real cmdlets' names: error ids end with them.
namespace Microsoft.PowerShell.Commands
{
    using FleetPatch.StandIns;

    public abstract class ServiceCommand : PSCmdlet
    {
        protected List<ServiceStandIn> Find(string[] names)
        {
            var result = new List<ServiceStandIn>();
            foreach (var name in names ?? new[] { "*" })
            {
                var pattern = new WildcardPattern(name, WildcardOptions.IgnoreCase);
                var hits = Services.All().Where(s => pattern.IsMatch(s.Name)).ToList();
                if (hits.Count == 0 && !WildcardPattern.ContainsWildcardCharacters(name))
                {
                    WriteError(new ErrorRecord(new ItemNotFoundException("Cannot find any service with service name '"
                        + name + "'."),
                        "NoServiceFoundForGivenName", ErrorCategory.ObjectNotFound, name));
                }
                result.AddRange(hits);
            }
            return result;
        }

        protected void Put(ServiceStandIn service, string status, string verb)
        {
            var why = Services.Set(service.Name, status);
            if (why == null) return;
            var text = "Service '" + service.DisplayName + " (" + service.Name + ")' cannot be " + verb + ": " + why
                + ".";
            WriteError(new ErrorRecord(new InvalidOperationException(text), "CouldNotStartService",
                ErrorCategory.OpenError, service));
        }
    }

    [Cmdlet(VerbsCommon.Get, "Service")]
    public sealed class GetServiceCommand : ServiceCommand
    {
        [Parameter(Position = 0)]
        public string[] Name { get; set; }

        protected override void ProcessRecord() => WriteObject(Find(Name), true);
    }

    public abstract class ChangeServiceCommand : ServiceCommand
    {
        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Name")]
        public string[] Name { get; set; }

        [Parameter(Mandatory = true, ParameterSetName = "InputObject", ValueFromPipeline = true)]
        public ServiceStandIn[] InputObject { get; set; }

        protected List<ServiceStandIn> Chosen => InputObject == null ? Find(Name) : InputObject.ToList();
    }

    [Cmdlet(VerbsLifecycle.Start, "Service")]
    public sealed class StartServiceCommand : ChangeServiceCommand
    {
        protected override void ProcessRecord() { foreach (var service in Chosen) Put(service, "Running", "started"); }
    }

    [Cmdlet(VerbsLifecycle.Stop, "Service")]
    public sealed class StopServiceCommand : ChangeServiceCommand
    {
        [Parameter]
        public SwitchParameter Force { get; set; }

        protected override void ProcessRecord() { foreach (var service in Chosen) Put(service, "Stopped", "stopped"); }
    }

    [Cmdlet(VerbsLifecycle.Restart, "Service")]
    public sealed class RestartServiceCommand : ChangeServiceCommand
    {
        [Parameter]
        public SwitchParameter Force { get; set; }

        protected override void ProcessRecord()
        {
            foreach (var service in Chosen)
            {
                Put(service, "Stopped", "stopped");
                Put(service, "Running", "started");
            }
        }
    }
}
