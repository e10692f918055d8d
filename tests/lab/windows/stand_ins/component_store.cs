// Of the module Dism: Repair-WindowsImage, only the question whether the component store was flagged as damaged;
// Get-WindowsPackage and Remove-WindowsPackage, of the packages of updates that are installed.
using System;
using System.Collections.Generic;
using System.Linq;
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

    // DismPackageFeatureState and DismReleaseType of the DISM API, as far as they are needed
    public enum PackageFeatureState { NotPresent, UninstallPending, Staged, Resolved, Installed, InstallPending }
    public enum ReleaseType { CriticalUpdate, Driver, FeaturePack, Hotfix, SecurityUpdate }

    public class BasicPackageStandIn
    {
        public string PackageName { get; set; }
        public PackageFeatureState PackageState { get; set; }
        public ReleaseType ReleaseType { get; set; }
    }

    public sealed class PackageStandIn : BasicPackageStandIn
    {
        public string Description { get; set; }
        public string SupportInformation { get; set; }
    }

    static class Store
    {
        public static string NameOf(UpdateFacts update)
        {
            var name = Json.Text(update.Offered, "package");
            return name != "" ? name : "Package_for_KB" + update.Texts("kbs")[0] + "~31bf3856ad364e35~amd64~~20348.1.1.0";
        }

        public static List<UpdateFacts> Read() => Catalogue.Applicable(true, true)
            .Where(u => (u.Installed || u.Pending) && u.Texts("kbs").Count > 0).ToList();

        public static PackageFeatureState StateOf(UpdateFacts update) =>
            update.Now("uninstall_pending") ? PackageFeatureState.UninstallPending
            : update.Pending ? PackageFeatureState.InstallPending : PackageFeatureState.Installed;

        public static ErrorRecord Failure(uint code, string place) => new ErrorRecord(
            ComError.Of(code, "Der Vorgang ist fehlgeschlagen."), place, ErrorCategory.NotSpecified, null);
    }

    [Cmdlet(VerbsCommon.Get, "WindowsPackage")]
    public sealed class GetWindowsPackageCommand : PSCmdlet
    {
        [Parameter(Mandatory = true)]
        public SwitchParameter Online { get; set; }

        [Parameter]
        public string PackageName { get; set; }

        protected override void ProcessRecord()
        {
            var code = (uint)Json.Number(Machine.Current.Scenario, "component_store_error");
            if (code != 0) ThrowTerminatingError(Store.Failure(code, "Microsoft.Dism.Commands.GetWindowsPackageCommand"));
            foreach (var update in Store.Read())
            {
                var name = Store.NameOf(update);
                var number = update.Texts("kbs")[0];
                if (PackageName == null)
                    WriteObject(new BasicPackageStandIn { PackageName = name, PackageState = Store.StateOf(update),
                        ReleaseType = ReleaseType.SecurityUpdate });
                else if (PackageName == name)
                    WriteObject(new PackageStandIn { PackageName = name, PackageState = Store.StateOf(update),
                        ReleaseType = ReleaseType.SecurityUpdate, Description = "Fix for KB" + number,
                        SupportInformation = "https://support.microsoft.com/help/" + number });
            }
        }
    }

    public sealed class RemovedPackageStandIn
    {
        public bool RestartNeeded { get; set; }
    }

    [Cmdlet(VerbsCommon.Remove, "WindowsPackage")]
    public sealed class RemoveWindowsPackageCommand : PSCmdlet
    {
        [Parameter(Mandatory = true)]
        public SwitchParameter Online { get; set; }

        [Parameter(Mandatory = true)]
        public string PackageName { get; set; }

        [Parameter]
        public SwitchParameter NoRestart { get; set; }

        protected override void ProcessRecord()
        {
            if (!NoRestart) throw new StandInException("Remove-WindowsPackage without -NoRestart asks a person");
            var update = Store.Read().FirstOrDefault(u => Store.NameOf(u) == PackageName);
            var place = "Microsoft.Dism.Commands.RemoveWindowsPackageCommand";
            if (update == null) ThrowTerminatingError(Store.Failure(0x800F0805, place));
            if (Json.Flag(update.Offered, "permanent")) ThrowTerminatingError(Store.Failure(0x800F0825, place));
            var restart = Json.Flag(update.Offered, "needs_reboot");
            Machine.Current.Change(state =>
            {
                Catalogue.StateOf(state, update.Id)[restart ? "uninstall_pending" : "installed"] = restart;
                Json.List(state, "journal").Add(new JsonObject { ["time"] = Machine.Now, ["what"] = "remove",
                    ["id"] = update.Id });
                FleetPatch.StandIns.Events.Add(state, "Setup", "Microsoft-Windows-Servicing", 1, "", new JsonObject
                {
                    ["PackageIdentifier"] = "KB" + update.Texts("kbs")[0], ["InitialPackageState"] = "5112",
                    ["InitialPackageStateTextized"] = "Installiert", ["IntendedPackageState"] = "5000",
                    ["IntendedPackageStateTextized"] = "Fehlt", ["Client"] = "DISM Manager Provider",
                });
                if (restart) Installation.AskForReboot(state);
            });
            WriteObject(new RemovedPackageStandIn { RestartNeeded = restart });
        }
    }
}
