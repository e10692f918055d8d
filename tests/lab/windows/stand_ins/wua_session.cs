// Microsoft.Update.Session and its searcher.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    [Com("IUpdateSession", "IUpdateSession2", "IUpdateSession3")]
    public sealed class UpdateSession : ComObject
    {
        public string ClientApplicationID { get; set; } = "";
        public bool ReadOnly => false;
        public uint UserLocale { get; set; } = 1033;
        public UpdateSearcher CreateUpdateSearcher() => new UpdateSearcher(this);
        public UpdateServiceManager CreateUpdateServiceManager() => new UpdateServiceManager();

        [LocalOnly]
        public UpdateDownloader CreateUpdateDownloader() => new UpdateDownloader(this);

        [LocalOnly]
        public UpdateInstaller CreateUpdateInstaller() => new UpdateInstaller(this);

        public UpdateHistoryEntryCollection QueryHistory(string criteria, int startIndex, int count)
        {
            if (!string.IsNullOrEmpty(criteria))
                throw new StandInException("IUpdateSession3.QueryHistory with criteria");
            return CreateUpdateSearcher().QueryHistory(startIndex, count);
        }
    }

    [Com("IUpdateSearcher", "IUpdateSearcher2", "IUpdateSearcher3")]
    public sealed class UpdateSearcher : ComObject
    {
        readonly UpdateSession session;
        internal UpdateSearcher(UpdateSession session) { this.session = session;
            ClientApplicationID = session.ClientApplicationID; }

        public string ClientApplicationID { get; set; }
        public bool Online { get; set; } = true;
        public bool IncludePotentiallySupersededUpdates { get; set; }
        public bool CanAutomaticallyUpgradeService { get; set; }
        public bool IgnoreDownloadPriority { get; set; }
        public int ServerSelection { get; set; }
        public int SearchScope { get; set; } = 1;
        public string ServiceID { get; set; } = "00000000-0000-0000-0000-000000000000";

        public string EscapeString(string unescaped) => unescaped.Replace("'", "''");

        public SearchResult Search(string criteria)
        {
            Agent.ThrowIfOff();
            var parsed = new Criteria(criteria);
            CheckServer();
            Machine.Wait(Json.Real(Machine.Current.Scenario, "search_seconds"), TakeGate());
            if (Online) ThrowIfServerFails();
            var found = Catalogue.Applicable(Online, IncludePotentiallySupersededUpdates).Where(parsed.Fits)
                .Select(u => new AgentUpdate(u, session));
            var result = (int)Json.Number(Machine.Current.Scenario, "search_result");
            var code = (uint)Json.Number(Machine.Current.Scenario, "search_warning");
            var warnings = result == 3 ? new[] { new UpdateException(code, 4) } : new UpdateException[0];
            return new SearchResult(new UpdateCollection(found), result, warnings);
        }

        static string TakeGate()
        {
            if (Machine.Current.Read(s => Json.Text(s, "search_gate")) == "") return "";
            return Machine.Current.Change(s =>
            {
                var gate = Json.Text(s, "search_gate");
                s["search_gate"] = "";
                return gate;
            });
        }

        void CheckServer()
        {
            if (ServerSelection < 0 || ServerSelection > 3)
                throw ComError.Of(0x80070057, "The parameter is incorrect.");
            if (ServerSelection == 3 && UpdateServices.All()
                .All(s => !s.ServiceID.Equals(ServiceID, StringComparison.OrdinalIgnoreCase)))
                throw ComError.Of(0x80248014);
            if (ServerSelection == 1 && UpdateServices.All().All(s => !s.IsManaged)) throw ComError.Of(0x80244011);
        }

        static void ThrowIfServerFails()
        {
            var code = Machine.Current.Change(state =>
            {
                var codes = Json.List(Machine.Current.Scenario, "search_hresults");
                var count = (int)Json.Number(state, "searches");
                state["searches"] = count + 1;
                var failure = codes.Count == 0 ? 0 : (long)codes[Math.Min(count, codes.Count - 1)];
                if (failure == 0)
                {
                    state["found"] = new JsonArray(Catalogue.Applicable(true, true)
                        .Select(u => (JsonNode)JsonValue.Create(u.Id)).ToArray());
                    state["last_search_of_scripts"] = Machine.Now;
                }
                return failure;
            });
            if (code != 0) throw ComError.Of((uint)code);
        }

        public int GetTotalHistoryCount()
        {
            Agent.ThrowIfOff();
            return Machine.Current.Read(s => Json.List(s, "history").Count);
        }

        // The newest first. To ask for nothing is an error there.
        public UpdateHistoryEntryCollection QueryHistory(int startIndex, int count)
        {
            Agent.ThrowIfOff();
            var all = Machine.Current.Read(s => Json.List(s, "history").Select(e => e.DeepClone()).ToList());
            all.Reverse();
            if (startIndex < 0 || count <= 0 || startIndex >= all.Count)
                throw ComError.Of(0x80240007,
                    "The index to a collection was invalid. (Exception from HRESULT: 0x80240007)");
            return new UpdateHistoryEntryCollection(all.Skip(startIndex).Take(count)
                .Select(e => new UpdateHistoryEntry(e)));
        }
    }

    // The service behind the COM objects.
    public static class Agent
    {
        public static void ThrowIfOff()
        {
            PowerSwitch.ThrowIfShuttingDown();
            var disabled = Services.Exists("wuauserv") && Services.Text("wuauserv", "start_type") == "Disabled";
            if (disabled)
                throw ComError.Of(0x80070422,
                    "The service cannot be started, either because it is disabled or because it has no enabled devices "
                    + "associated with it. (Exception from HRESULT: 0x80070422)");
        }

        public static bool OthersAtWork(JsonObject state) =>
            Json.Real(state, "busy_until") > Machine.Now || state["activity"] != null;

        public static void History(JsonObject state, UpdateFacts update, string client, int operation, int result,
            uint code)
        {
            Json.List(state, "history").Add(new JsonObject
            {
                ["time"] = Machine.Now, ["operation"] = operation, ["result"] = result, ["hresult"] = code,
                    ["title"] = update.Title,
                ["id"] = update.Id, ["revision"] = update.Revision, ["client"] = client, ["server_selection"] = 2,
                ["service"] = "9482f4b4-e343-43b6-b170-9a65bc822c77",
            });
        }
    }
}
