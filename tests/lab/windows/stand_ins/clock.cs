// The machine's clock: state["clock_ahead"] is by how many seconds it is ahead of the true time. Only fleetpatch's own
// functions read it; the stand-ins keep the true time.
using System;
using System.Management.Automation;

namespace FleetPatch.StandIns
{
    static class Clock
    {
        public static DateTime Now => DateTime.UtcNow.AddSeconds(Machine.Current.Read(s => (double)s["clock_ahead"]));
    }

    [Cmdlet(VerbsCommon.Get, "FpSystemTimeStandIn")]
    [StandsInFor("Get-FpSystemTime")]
    public sealed class GetSystemTimeCommand : PSCmdlet
    {
        protected override void ProcessRecord() => WriteObject(Clock.Now);
    }

    [Cmdlet(VerbsCommon.Get, "FpUptimeStandIn")]
    [StandsInFor("Get-FpUptime")]
    public sealed class GetUptimeCommand : PSCmdlet
    {
        protected override void ProcessRecord() =>
            WriteObject((long)Math.Floor(Machine.Now - Machine.Current.BootTime
                + Json.Real(Machine.Current.Scenario, "counter_ahead")));
    }

    [Cmdlet(VerbsCommon.Get, "FpSecondStandIn")]
    [StandsInFor("Get-FpSecond")]
    public sealed class GetSecondCommand : PSCmdlet
    {
        protected override void ProcessRecord() => WriteObject((long)Math.Floor(Machine.ToEpoch(Clock.Now)));
    }
}
