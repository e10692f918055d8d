// IUpdate to IUpdate5.
using System;
using System.Linq;

namespace FleetPatch.StandIns
{
    [Com("IUpdate", "IUpdate2", "IUpdate3", "IUpdate4", "IUpdate5")]
    public sealed class AgentUpdate : ComObject
    {
        internal AgentUpdate(UpdateFacts facts, UpdateSession session) { Facts = facts; Session = session; }

        internal UpdateFacts Facts { get; }
        internal UpdateSession Session { get; }

        string Text(string field) => Json.Text(Facts.Offered, field);
        bool Flag(string field) => Json.Flag(Facts.Offered, field);
        StringCollection Texts(string field) => new StringCollection(Facts.Texts(field));
        static StringCollection None => new StringCollection(Enumerable.Empty<string>());

        public UpdateIdentity Identity => new UpdateIdentity(Facts.Id, Facts.Revision);
        public string Title => Facts.Title;
        public string Description => Text("description");
        public int Type => Facts.Type == "Driver" ? 2 : 1;
        public string MsrcSeverity => Text("severity");
        public StringCollection KBArticleIDs => Texts("kbs");
        public StringCollection CveIDs => Texts("cves");
        public StringCollection SupersededUpdateIDs => Texts("supersedes");
        public StringCollection SecurityBulletinIDs => None;
        public StringCollection MoreInfoUrls => None;
        public StringCollection Languages => None;
        public StringCollection UninstallationSteps => None;
        public UpdateCollection BundledUpdates => new UpdateCollection();
        public CategoryCollection Categories => new CategoryCollection(Facts.Categories);
        public InstallationBehavior InstallationBehavior =>
            Flag("no_installation_behavior") ? null : new InstallationBehavior(Facts);
        public InstallationBehavior UninstallationBehavior => IsUninstallable ? new InstallationBehavior(Facts) : null;

        public bool IsInstalled => Facts.Installed;
        public bool IsPresent => Facts.Installed || Facts.Pending;
        public bool RebootRequired => Facts.Pending;
        public bool IsDownloaded => Facts.Now("downloaded");
        public bool IsMandatory => Flag("mandatory");
        public bool IsBeta => Flag("beta");
        public bool IsUninstallable => Flag("uninstallable");
        public bool BrowseOnly => Flag("browse_only");
        public bool PerUser => false;
        public bool AutoSelectOnWebSites => Flag("auto_select");
        public int AutoSelection => 0;
        public int AutoDownload => 0;
        public int DownloadPriority => 2;
        public bool CanRequireSource => false;
        public bool DeltaCompressedContentAvailable => false;
        public bool DeltaCompressedContentPreferred => true;
        public bool EulaAccepted => Facts.Now("eula_accepted");
        public string EulaText => EulaAccepted ? null : "Licence terms";
        public string HandlerID => "http://schemas.microsoft.com/msus/2002/12/UpdateHandlers/Cbs";
        public decimal MaxDownloadSize => Json.Number(Facts.Offered, "size");
        public decimal MinDownloadSize => 0;
        public int RecommendedCpuSpeed => 0;
        public int RecommendedHardDiskSpace => 0;
        public int RecommendedMemory => 0;
        public string ReleaseNotes => null;
        public string SupportUrl => "https://support.microsoft.com/";
        public string UninstallationNotes => "";
        public object Deadline => Json.Real(Facts.Offered, "deadline") is var deadline && deadline > 0
            ? DateTime.SpecifyKind(Machine.FromEpoch(deadline), DateTimeKind.Unspecified) : (object)null;
        public DateTime LastDeploymentChangeTime => DateTime.SpecifyKind(
            Machine.FromEpoch(Json.Real(Facts.Offered, "published")), DateTimeKind.Unspecified);
        public int DeploymentAction => Array.IndexOf(new[] { "None", "Installation", "Uninstallation", "Detection",
            "OptionalInstallation" }, Facts.DeploymentAction);

        public bool IsHidden
        {
            get => Facts.Now("hidden");
            [LocalOnly]
            set => Machine.Current.Change(s => { Catalogue.StateOf(s, Facts.Id)["hidden"] = value; });
        }

        [LocalOnly]
        public void AcceptEula()
        {
            Agent.ThrowIfOff();
            Machine.Current.Change(s => { Catalogue.StateOf(s, Facts.Id)["eula_accepted"] = true; });
        }
    }
}
