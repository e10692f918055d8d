// What the update service offers this machine (scenario.json), with what became of it (state.json).
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    public sealed class CategoryFacts
    {
        public string Id;
        public string Name;
        public string Type;
    }

    public sealed class UpdateFacts
    {
        public UpdateFacts(JsonNode offered, JsonNode state)
        {
            Offered = offered;
            Id = Json.Text(offered, "id");
            Revision = (int)Json.Number(offered, "revision");
            Type = Json.Text(offered, "type");
            DeploymentAction = Json.Text(offered, "deployment_action");
            Installed = Json.Flag(state, "installed");
            Pending = Json.Flag(state, "pending");
            Categories = Json.List(offered, "products").Select(p =>
                new CategoryFacts { Name = (string)p[0], Id = (string)p[1], Type = "Product" }).ToList();
            var key = Json.Text(offered, "classification");
            var named = Json.Field(Json.Field(Machine.Current.Scenario, "categories"), key);
            Categories.Add(new CategoryFacts { Name = Json.Text(named, "name"), Id = Json.Text(named, "id"),
                Type = "UpdateClassification" });
        }

        public JsonNode Offered { get; }
        public string Id { get; }
        public int Revision { get; }
        public string Type { get; }
        public string DeploymentAction { get; }
        public bool Installed { get; }
        public bool Pending { get; }
        public List<CategoryFacts> Categories { get; }
        public string Title => Json.Text(Offered, "title");
        public bool IsExclusive => Json.Number(Offered, "impact") == 2;

        public List<string> Texts(string field) => Json.List(Offered, field).Select(t => (string)t).ToList();

        // From state.json at this moment.
        public bool Now(string field) => Machine.Current.Read(s => Json.Flag(Catalogue.StateOf(s, Id), field));

        public bool Flag(string name)
        {
            switch (name)
            {
                case "IsInstalled": return Installed;
                case "IsPresent": return Installed || Pending;
                case "RebootRequired": return Pending;
                case "IsHidden": return Now("hidden");
                case "IsAssigned": return Json.Flag(Offered, "assigned");
                case "BrowseOnly": return Json.Flag(Offered, "browse_only");
                case "AutoSelectOnWebSites": return Json.Flag(Offered, "auto_select");
                default: throw new StandInException("no flag " + name);
            }
        }
    }

    public static class Catalogue
    {
        public static JsonNode StateOf(JsonObject state, string id) => Json.Field(Json.Field(state, "updates"), id);

        // All that applies to the machine. An update that a newer one supersedes is not offered, unless it is there.
        public static List<UpdateFacts> Applicable(bool online, bool superseded) => Machine.Current.Read(state =>
        {
            var all = Json.List(Machine.Current.Scenario, "updates")
                .Select(u => new UpdateFacts(u, StateOf(state, Json.Text(u, "id")))).ToList();
            var there = all.Where(u => u.Installed).Select(u => u.Id).ToHashSet(StringComparer.OrdinalIgnoreCase);
            // The server tells the agent of an update only once what must be there before is installed.
            var told = Json.List(state, "found").Select(id => (string)id).ToHashSet();
            var offered = all.Where(u => u.Installed || (u.Texts("appears_after").All(there.Contains)
                && (online || told.Contains(u.Id)
                    || (!Json.Flag(u.Offered, "fresh") && u.Texts("appears_after").Count == 0)))).ToList();
            var newer = superseded ? offered.Where(u => u.Installed) : offered; // an old one does not apply any more
            var old = newer.SelectMany(u => u.Texts("supersedes")).ToHashSet(StringComparer.OrdinalIgnoreCase);
            return offered.Where(u => u.Installed || u.Pending || !old.Contains(u.Id)).ToList();
        });
    }
}
