// WinRM's settings, as the scenario says: the provider WSMan: and the certificate store do not exist on Linux, so the
// functions that read them are replaced. The default is that of Windows Server 2022.
using System;
using System.Collections;
using System.Management.Automation;

namespace FleetPatch.StandIns
{
    [Cmdlet(VerbsCommon.Get, "FpWinrmSettingStandIn")]
    [StandsInFor("Get-FpWinrmSetting")]
    public sealed class GetWinrmSettingCommand : PSCmdlet
    {
        [Parameter(Mandatory = true)]
        public string Path { get; set; }

        protected override void ProcessRecord()
        {
            var known = Machine.Current.Scenario["winrm"].AsObject();
            WriteObject(known.TryGetPropertyValue(Path, out var value) ? (string)value : "");
        }
    }

    [Cmdlet(VerbsCommon.Get, "FpListenerCertificateStandIn")]
    [StandsInFor("Get-FpListenerCertificate")]
    public sealed class GetListenerCertificateCommand : PSCmdlet
    {
        protected override void ProcessRecord()
        {
            foreach (var days in Json.List(Machine.Current.Scenario, "listener_certificate_days"))
                WriteObject(new Hashtable(StringComparer.OrdinalIgnoreCase)
                {
                    ["Thumbprint"] = new string('A', 40),
                    ["Until"] = DateTime.UtcNow.AddDays((int)days).AddHours(1),
                });
        }
    }
}
