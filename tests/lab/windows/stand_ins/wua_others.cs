// The agent's other objects: SystemInfo, AutoUpdate, ServiceManager and AgentInfo.
using System;
using System.Collections.Generic;
using System.Linq;

namespace FleetPatch.StandIns
{
    [Com("ISystemInformation")]
    [LocalOnly]
    public sealed class SystemInformation : ComObject
    {
        public bool RebootRequired => Machine.Current.Read(s => Json.Flag(s, "reboot_required"));
        public string OemHardwareSupportLink => "";
    }

    [Com("IWindowsUpdateAgentInfo")]
    public sealed class AgentInfo : ComObject
    {
        public object GetInfo(string varInfoIdentifier)
        {
            switch (varInfoIdentifier)
            {
                case "ApiMajorVersion": return 8;
                case "ApiMinorVersion": return 0;
                case "ProductVersionString": return Json.Text(Machine.Current.Scenario, "agent_version");
                default: throw ComError.Of(0x80070057,
                    "The parameter is incorrect. (Exception from HRESULT: 0x80070057 (E_INVALIDARG))");
            }
        }
    }

    [Com("IAutomaticUpdates", "IAutomaticUpdates2")]
    public sealed class AutomaticUpdates : ComObject
    {
        [LocalOnly]
        public AutomaticUpdatesSettings Settings => new AutomaticUpdatesSettings();

        [LocalOnly]
        public bool ServiceEnabled => Services.Text("wuauserv", "start_type") != "Disabled";

        public AutomaticUpdatesResults Results => new AutomaticUpdatesResults();
    }

    [Com("IAutomaticUpdatesResults")]
    public sealed class AutomaticUpdatesResults : ComObject
    {
        public object LastSearchSuccessDate => Time("last_search");
        public object LastInstallationSuccessDate => Time("last_installation");

        static object Time(string field) => Machine.Current.Read(s => s[field] == null
            ? null : (object)DateTime.SpecifyKind(Machine.FromEpoch(Json.Real(s, field)), DateTimeKind.Unspecified));
    }

    [Com("IAutomaticUpdatesSettings", "IAutomaticUpdatesSettings2", "IAutomaticUpdatesSettings3")]
    public sealed class AutomaticUpdatesSettings : ComObject
    {
        const string Key = @"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU";

        static int? Policy(string name) => RegistryStore.Get(Key, name) is int value ? value : (int?)null;

        public int NotificationLevel => Policy("NoAutoUpdate") == 1 ? 1 : Policy("AUOptions") is int options
            && options <= 4 ? options : 0;
        public bool ReadOnly => RegistryStore.Exists(Key);
        public bool Required => false;
        public int ScheduledInstallationDay => Policy("ScheduledInstallDay") ?? 0;
        public int ScheduledInstallationTime => Policy("ScheduledInstallTime") ?? 3;
        public bool IncludeRecommendedUpdates => Policy("IncludeRecommendedUpdates") == 1;
        public bool FeaturedUpdatesEnabled => false;
        public bool NonAdministratorsElevated => true;
        public void Refresh() { }
    }

    [Com("IUpdateService", "IUpdateService2")]
    public sealed class UpdateService : ComObject
    {
        internal UpdateService(string name, string id, bool managed, bool isDefault) { Name = name; ServiceID = id;
            IsManaged = managed; IsDefaultAUService = isDefault; }
        public string Name { get; }
        public string ServiceID { get; }
        public bool IsManaged { get; }
        public bool IsDefaultAUService { get; }
        public bool IsRegisteredWithAU => true;
        public bool IsScanPackageService => false;
        public bool CanRegisterWithAU => true;
        public bool OffersWindowsUpdates => true;
        public string ServiceUrl => "";
        public string SetupPrefix => "";
    }

    static class UpdateServices
    {
        public static List<UpdateService> All()
        {
            var more = Json.List(Machine.Current.Scenario, "services_registered").Select(s =>
                new UpdateService(Json.Text(s, "name"), Json.Text(s, "id"), Json.Flag(s, "managed"),
                    Json.Flag(s, "default"))).ToList();
            var isDefault = !more.Any(s => s.IsDefaultAUService);
            more.Insert(0, new UpdateService("Windows Update", "9482f4b4-e343-43b6-b170-9a65bc822c77", false,
                isDefault));
            return more;
        }
    }

    [Com("IUpdateServiceCollection")]
    public sealed class UpdateServiceCollection : ComList<UpdateService>
    {
        internal UpdateServiceCollection(IEnumerable<UpdateService> items) : base(items) { }
    }

    [Com("IUpdateServiceManager", "IUpdateServiceManager2")]
    public sealed class UpdateServiceManager : ComObject
    {
        public string ClientApplicationID { get; set; } = "";
        public UpdateServiceCollection Services => new UpdateServiceCollection(UpdateServices.All());
    }
}
