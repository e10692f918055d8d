// Downloads and installations. An installation is the work of a service: it goes on when whoever asked for it is ended.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json.Nodes;
using System.Threading;

namespace FleetPatch.StandIns
{
    struct Outcome
    {
        public int Result;
        public uint Code;
        public bool Reboot;

        public static Outcome Of(uint code) => new Outcome { Result = (code & 0x80000000) != 0 ? 4 : 2, Code = code };
    }

    [Com("IUpdateDownloadResult")]
    public sealed class UpdateDownloadResult : ComObject
    {
        internal UpdateDownloadResult(object outcome)
        {
            ResultCode = ((Outcome)outcome).Result;
            HResult = unchecked((int)((Outcome)outcome).Code);
        }

        public int ResultCode { get; }
        public int HResult { get; }
    }

    [Com("IDownloadResult")]
    public sealed class DownloadResult : ComObject
    {
        readonly List<Outcome> outcomes;
        internal DownloadResult(object outcomes) { this.outcomes = (List<Outcome>)outcomes; }
        public int ResultCode => Work.Whole(outcomes);
        public int HResult => ResultCode == 4 ? unchecked((int)0x80240022) : 0;
        public UpdateDownloadResult GetUpdateResult(int updateIndex) =>
            new UpdateDownloadResult(Work.At(outcomes, updateIndex));
    }

    [Com("IUpdateInstallationResult")]
    public sealed class UpdateInstallationResult : ComObject
    {
        internal UpdateInstallationResult(object outcome)
        {
            ResultCode = ((Outcome)outcome).Result;
            HResult = unchecked((int)((Outcome)outcome).Code);
            RebootRequired = ((Outcome)outcome).Reboot;
        }

        public int ResultCode { get; }
        public int HResult { get; }
        public bool RebootRequired { get; }
    }

    [Com("IInstallationResult")]
    public sealed class InstallationResult : ComObject
    {
        readonly List<Outcome> outcomes;
        internal InstallationResult(object outcomes) { this.outcomes = (List<Outcome>)outcomes; }
        public int ResultCode => Work.Whole(outcomes);
        public int HResult => ResultCode == 4 ? unchecked((int)0x80240022) : 0;
        public bool RebootRequired => outcomes.Any(o => o.Reboot);
        public UpdateInstallationResult GetUpdateResult(int updateIndex) =>
            new UpdateInstallationResult(Work.At(outcomes, updateIndex));
    }

    static class Work
    {
        public static Outcome At(List<Outcome> outcomes, int index) => index >= 0 && index < outcomes.Count
            ? outcomes[index]
            : throw ComError.Of(0x80240007);

        public static int Whole(List<Outcome> outcomes) => outcomes.All(o => o.Result == 2) ? 2
            : outcomes.Any(o => o.Result == 2 || o.Result == 3) ? 3 : 4;

        public static List<AgentUpdate> Checked(UpdateCollection updates, UpdateSession session)
        {
            if (updates == null || updates.Count == 0)
                throw ComError.Of(0x80240024, "There are no updates. (Exception from HRESULT: 0x80240024)");
            if (updates.All.Any(u => u.Session != session)) throw new StandInException("updates of another session");
            return updates.All.ToList();
        }

        // Fails as often as the scenario says: a code, or 0 when it succeeds.
        public static uint Failure(JsonObject state, UpdateFacts update, string what)
        {
            var code = (uint)Json.Number(update.Offered, what + "_hresult");
            var limit = Json.Number(update.Offered, what + "_failures");
            var mine = Catalogue.StateOf(state, update.Id);
            var count = Json.Number(mine, what + "_failures");
            if ((code & 0x80000000) != 0 && limit >= 0 && count >= limit) return 0;
            mine[what + "_failures"] = count + 1;
            return code;
        }
    }

    [Com("IUpdateDownloader")]
    public sealed class UpdateDownloader : ComObject
    {
        readonly UpdateSession session;
        internal UpdateDownloader(UpdateSession session) { this.session = session;
            ClientApplicationID = session.ClientApplicationID; }
        public string ClientApplicationID { get; set; }
        public bool IsForced { get; set; }
        public int Priority { get; set; } = 2;
        public UpdateCollection Updates { get; set; } = new UpdateCollection();

        [LocalOnly]
        public DownloadResult Download()
        {
            Agent.ThrowIfOff();
            return new DownloadResult(Work.Checked(Updates, session).Select(u => Download(u.Facts)).ToList());
        }

        Outcome Download(UpdateFacts update)
        {
            if (!update.Now("eula_accepted")) return Outcome.Of(0x80240023);
            if (update.Now("downloaded") && !IsForced) return Outcome.Of(0);
            Machine.Current.Change(s => { Events.Add(s, "System", "Microsoft-Windows-WindowsUpdateClient", 44,
                "Windows Update started downloading an update: " + update.Title); });
            Machine.Wait(Json.Real(update.Offered, "download_seconds"), Json.Text(update.Offered, "download_gate"));
            return Outcome.Of(Machine.Current.Change(state =>
            {
                var code = Work.Failure(state, update, "download");
                if ((code & 0x80000000) == 0) Catalogue.StateOf(state, update.Id)["downloaded"] = true;
                Json.List(state, "journal").Add(new JsonObject { ["time"] = Machine.Now, ["what"] = "download",
                    ["id"] = update.Id, ["hresult"] = code });
                return code;
            }));
        }
    }

    [Com("IUpdateInstaller", "IUpdateInstaller2", "IUpdateInstaller3", "IUpdateInstaller4")]
    public sealed class UpdateInstaller : ComObject
    {
        readonly UpdateSession session;
        internal UpdateInstaller(UpdateSession session) { this.session = session;
            ClientApplicationID = session.ClientApplicationID; }
        public string ClientApplicationID { get; set; }
        public bool IsForced { get; set; }
        public bool AllowSourcePrompts { get; set; } = true;
        public bool ForceQuiet { get; set; }
        public bool AttemptCloseAppsIfNecessary { get; set; }
        public UpdateCollection Updates { get; set; } = new UpdateCollection();
        public bool IsBusy => Machine.Current.Read(Agent.OthersAtWork);
        public bool RebootRequiredBeforeInstallation => Machine.Current.Read(s =>
            Json.Flag(s, "reboot_before_installation"));

        [LocalOnly]
        public InstallationResult Install()
        {
            Agent.ThrowIfOff();
            var updates = Work.Checked(Updates, session);
            if (!ForceQuiet || AllowSourcePrompts)
                throw new StandInException("Install() would ask somebody: ForceQuiet and AllowSourcePrompts");
            if (RebootRequiredBeforeInstallation) throw ComError.Of(0x80240016);
            if (updates.Count > 1 && updates.Any(u => u.Facts.IsExclusive)) throw ComError.Of(0x80240019);
            Begin(updates[0].Facts);
            var outcomes = new List<Outcome>();
            using (var done = new ManualResetEventSlim())
            using (ExecutionContext.SuppressFlow())
            {
                var service = new Thread(Host.Work(() =>
                {
                    foreach (var update in updates)
                        outcomes.Add(new Installation(update.Facts, ClientApplicationID).Run());
                    Machine.Current.Change(s => { s["activity"] = null; });
                    done.Set();
                })) { IsBackground = true };
                service.Start();
                while (!done.Wait(20)) Request.Current?.ThrowIfStopped();
            }
            return new InstallationResult(outcomes);
        }

        static void Begin(UpdateFacts first) => Machine.Current.Change(state =>
        {
            if (Agent.OthersAtWork(state))
                throw ComError.Of(0x80240009,
                    "Another conflicting operation was in progress. (Exception from HRESULT: 0x80240009)");
            state["activity"] = new JsonObject { ["what"] = "install", ["id"] = first.Id, ["since"] = Machine.Now };
        });
    }

    sealed class Installation
    {
        const string Source = "Microsoft-Windows-WindowsUpdateClient";
        readonly UpdateFacts update;
        readonly string client;

        public Installation(UpdateFacts update, string client) { this.update = update; this.client = client; }

        JsonNode Offered => update.Offered;

        string Guid => "{" + update.Id.ToUpperInvariant() + "}";

        public Outcome Run()
        {
            Machine.Current.Change(state =>
            {
                state["activity"] = new JsonObject { ["what"] = "install", ["id"] = update.Id,
                    ["since"] = Machine.Now };
                Events.Add(state, "System", Source, 43,
                    "Installation Started: Windows has started installing the following update: " + update.Title);
            });
            if (Refusal() == 0) Machine.Wait(Json.Real(Offered, "install_seconds"), Json.Text(Offered, "install_gate"));
            return Machine.Current.Change(Finish);
        }

        uint Refusal() => Machine.Current.Read(state =>
        {
            var mine = Catalogue.StateOf(state, update.Id);
            if (!Json.Flag(mine, "eula_accepted")) return 0x80240023;
            if (!Json.Flag(mine, "downloaded")) return 0x80246007;
            if (update.Texts("needs").Any(id => !Json.Flag(Catalogue.StateOf(state, id), "installed")))
                return 0x800F0823;
            return 0u;
        });

        Outcome Finish(JsonObject state)
        {
            var code = Refusal();
            if (code == 0) code = Work.Failure(state, update, "install");
            var outcome = Outcome.Of(code);
            if (Offered["install_result"] != null && code == Json.Number(Offered, "install_hresult"))
                outcome.Result = (int)Json.Number(Offered, "install_result");
            var succeeded = outcome.Result == 2 || outcome.Result == 3;
            if (succeeded) Succeed(state, ref outcome);
            else Events.Add(state, "System", Source, 20,
                "Installation Failure: Windows failed to install the following update with error 0x"
                + code.ToString("X8") + ": " + update.Title, new JsonObject
                {
                    ["errorCode"] = "0x" + code.ToString("x8"), ["updateTitle"] = update.Title, ["updateGuid"] = Guid,
                });
            Agent.History(state, update, client, 1, outcome.Result, code);
            Json.List(state, "journal").Add(new JsonObject
            {
                ["time"] = Machine.Now, ["what"] = "install", ["id"] = update.Id, ["result"] = outcome.Result,
                    ["hresult"] = code,
            });
            return outcome;
        }

        void Succeed(JsonObject state, ref Outcome outcome)
        {
            var mine = Catalogue.StateOf(state, update.Id);
            mine["installs"] = Json.Number(mine, "installs") + 1;
            state["last_installation"] = Machine.Now;
            Events.Add(state, "System", Source, 19,
                "Installation Successful: Windows successfully installed the following update: " + update.Title,
                new JsonObject { ["updateTitle"] = update.Title, ["updateGuid"] = Guid });
            if (Json.Flag(Offered, "lies")) return;
            outcome.Reboot = Json.Flag(Offered, "needs_reboot");
            mine[outcome.Reboot ? "pending" : "installed"] = true;
            if (outcome.Reboot) AskForReboot(state);
            else Number(state);
        }

        public static void AskForReboot(JsonObject state)
        {
            const string Windows = @"SOFTWARE\Microsoft\Windows\CurrentVersion\";
            state["reboot_required"] = true;
            foreach (var key in new[] { @"WindowsUpdate\Auto Update\RebootRequired",
                @"Component Based Servicing\RebootPending" })
                state["registry"][Windows + key] = new JsonObject { ["volatile"] = true,
                    ["values"] = new JsonObject() };
        }

        void Number(JsonObject state)
        {
            foreach (var kb in update.Texts("kbs")) Json.List(state, "hot_fixes").Add("KB" + kb);
            if (Offered["ubr_after"] == null) return;
            state["ubr"] = Json.Number(Offered, "ubr_after");
            state["registry"][@"SOFTWARE\Microsoft\Windows NT\CurrentVersion"]["values"]["UBR"]["data"] = Json.Number(
                Offered, "ubr_after");
            var ticks = Machine.FromEpoch(Machine.Now).ToFileTimeUtc();
            var package = @"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\"
                + "Package_for_RollupFix~31bf3856ad364e35~amd64~~" + Json.Number(state, "build") + "."
                + Json.Number(state, "ubr") + ".1.10";
            state["registry"][package] = new JsonObject { ["volatile"] = false, ["values"] = new JsonObject
            {
                ["InstallTimeHigh"] = new JsonObject { ["kind"] = "DWord", ["data"] = unchecked((int)(ticks >> 32)) },
                ["InstallTimeLow"] = new JsonObject { ["kind"] = "DWord", ["data"] = unchecked((int)ticks) },
            } };
        }
    }
}
