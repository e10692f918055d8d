// The rights of the login, and who listens on the network: both as the scenario says.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    // WindowsIdentity does not exist on Linux: the function that asks it is replaced.
    [Cmdlet(VerbsCommon.Get, "FpPrivilegeStandIn")]
    [StandsInFor("Get-FpPrivilege")]
    public sealed class GetPrivilegeCommand : PSCmdlet
    {
        protected override void ProcessRecord() =>
            WriteObject(Request.Current.Logon == "system" ? "administrator"
                : Json.Text(Machine.Current.Scenario, "privilege"));
    }

    public sealed class ConnectionStandIn
    {
        public string LocalAddress => "0.0.0.0";
        public ushort LocalPort { get; set; }
        public string State => "Listen";
        public uint OwningProcess { get; set; }
    }

    public static class Listeners
    {
        // A service that runs has the number of its process; another listener is a process of that name, or the system.
        public static IEnumerable<ConnectionStandIn> All() =>
            Json.List(Machine.Current.Scenario, "listeners").Select(entry =>
        {
            var name = (string)entry[1];
            var process = Services.Exists(name) ? (int?)Services.ProcessOf(name) : Processes.All()
                .FirstOrDefault(p => p.ProcessName == name)?.Id;
            return new ConnectionStandIn { LocalPort = (ushort)(int)entry[0], OwningProcess = (uint)(process ?? 4) };
        }).Where(c => c.OwningProcess != 0);
    }

    [Cmdlet(VerbsCommon.Get, "NetTCPConnection")]
    public sealed class GetNetTcpConnectionCommand : PSCmdlet
    {
        [Parameter]
        [ValidateSet("Listen")]
        public string State { get; set; }

        protected override void ProcessRecord() => WriteObject(Listeners.All(), true);
    }

    public static partial class Programs
    {
        [Program("netsh.exe")]
        public static int Netsh(List<string> arguments, Printed printed)
        {
            var told = string.Join(" ", arguments).ToLowerInvariant();
            if (told != "interface ipv4 show dynamicport tcp") throw Unknown("netsh.exe", told);
            foreach (var line in new[] { "", "Protocol tcp Dynamic Port Range", "---------------------------------",
                "Start Port      : 49152", "Number of Ports : 16384", "" })
                printed.Line(line);
            return 0;
        }
    }
}
