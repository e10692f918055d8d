// Repair-WindowsImage of the module Dism: only the question whether the component store was flagged as damaged.
using System;
using System.Management.Automation;
using System.Text.Json.Nodes;

namespace Microsoft.Dism.Commands
{
    using FleetPatch.StandIns;

    // DismImageHealthState of the DISM API
    public enum ImageHealthState { Healthy, Repairable, NonRepairable }

    public sealed class ImageHealthStandIn
    {
        public ImageHealthState ImageHealthState { get; set; }
        public bool RestartNeeded { get; set; }
    }

    [Cmdlet(VerbsDiagnostic.Repair, "WindowsImage")]
    public sealed class RepairWindowsImageCommand : PSCmdlet
    {
        [Parameter(Mandatory = true)]
        public SwitchParameter Online { get; set; }

        [Parameter(Mandatory = true)]
        public SwitchParameter CheckHealth { get; set; }

        protected override void ProcessRecord()
        {
            Machine.Wait(Json.Real(Machine.Current.Scenario, "component_store_seconds"), "");
            var code = (uint)Json.Number(Machine.Current.Scenario, "component_store_error");
            if (code != 0)
            {
                ThrowTerminatingError(new ErrorRecord(ComError.Of(code, "Der Vorgang ist fehlgeschlagen."),
                    "Microsoft.Dism.Commands.RepairWindowsImageCommand", ErrorCategory.NotSpecified, null));
            }
            WriteObject(new ImageHealthStandIn
            {
                ImageHealthState = Enum.Parse<ImageHealthState>(Machine.Current.Read(s =>
                    Json.Text(s, "component_store"))),
            });
        }
    }
}
