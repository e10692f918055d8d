// The agent's collections and small objects.
using System;
using System.Collections.Generic;
using System.Linq;

namespace FleetPatch.StandIns
{
    [Com("IStringCollection")]
    public sealed class StringCollection : ComList<string>
    {
        internal StringCollection(IEnumerable<string> items) : base(items) { }
        public bool ReadOnly => true;
    }

    [Com("ICategory")]
    public sealed class UpdateCategory : ComObject
    {
        readonly CategoryFacts facts;
        internal UpdateCategory(CategoryFacts facts) { this.facts = facts; }
        public string Name => facts.Name;
        public string CategoryID => facts.Id;
        public string Type => facts.Type;
        public string Description => facts.Name;
        public int Order => 0;
    }

    [Com("ICategoryCollection")]
    public sealed class CategoryCollection : ComList<UpdateCategory>
    {
        internal CategoryCollection(IEnumerable<CategoryFacts> facts)
            : base(facts.Select(f => new UpdateCategory(f))) { }
    }

    [Com("IUpdateIdentity")]
    public sealed class UpdateIdentity : ComObject
    {
        internal UpdateIdentity(string id, int revision) { UpdateID = id; RevisionNumber = revision; }
        public string UpdateID { get; }
        public int RevisionNumber { get; }
    }

    [Com("IInstallationBehavior")]
    public sealed class InstallationBehavior : ComObject
    {
        readonly UpdateFacts facts;
        internal InstallationBehavior(UpdateFacts facts) { this.facts = facts; }
        public bool CanRequestUserInput => Json.Flag(facts.Offered, "asks_user");
        public int Impact => (int)Json.Number(facts.Offered, "impact");
        public int RebootBehavior => (int)Json.Number(facts.Offered, "reboot_behavior");
        public bool RequiresNetworkConnectivity => Json.Flag(facts.Offered, "needs_network");
    }

    [Com("IUpdateException")]
    public sealed class UpdateException : ComObject
    {
        internal UpdateException(uint code, int context) { HResult = unchecked((int)code); Context = context; }
        public int HResult { get; }
        public int Context { get; }
        public string Message => "";
    }

    [Com("IUpdateExceptionCollection")]
    public sealed class UpdateExceptionCollection : ComList<UpdateException>
    {
        internal UpdateExceptionCollection(IEnumerable<UpdateException> items) : base(items) { }
    }

    [Com("IUpdateCollection")]
    public sealed class UpdateCollection : ComList<AgentUpdate>
    {
        public UpdateCollection() : base(Enumerable.Empty<AgentUpdate>()) { }
        internal UpdateCollection(IEnumerable<AgentUpdate> items) : base(items) { }
        public bool ReadOnly => false;
        public void Clear() => items.Clear();
        public UpdateCollection Copy() => new UpdateCollection(items);
        public void RemoveAt(int index) => items.RemoveAt(Checked(index));
        public void Insert(int index, AgentUpdate value) => items.Insert(index, value ?? throw Null());

        public int Add(AgentUpdate value)
        {
            items.Add(value ?? throw Null());
            return items.Count - 1;
        }

        static Exception Null() =>
            ComError.Of(0x80004003, "Invalid pointer (Exception from HRESULT: 0x80004003 (E_POINTER))");
    }

    [Com("ISearchResult")]
    public sealed class SearchResult : ComObject
    {
        internal SearchResult(UpdateCollection updates, int result, IEnumerable<UpdateException> warnings)
        {
            Updates = updates;
            ResultCode = result;
            Warnings = new UpdateExceptionCollection(warnings);
        }

        public UpdateCollection Updates { get; }
        public int ResultCode { get; }
        public UpdateExceptionCollection Warnings { get; }
        public CategoryCollection RootCategories => new CategoryCollection(Enumerable.Empty<CategoryFacts>());
    }

    [Com("IUpdateHistoryEntry", "IUpdateHistoryEntry2")]
    public sealed class UpdateHistoryEntry : ComObject
    {
        readonly System.Text.Json.Nodes.JsonNode entry;
        internal UpdateHistoryEntry(System.Text.Json.Nodes.JsonNode entry) { this.entry = entry; }
        public int Operation => (int)Json.Number(entry, "operation");
        public int ResultCode => (int)Json.Number(entry, "result");
        public int HResult => unchecked((int)Json.Number(entry, "hresult"));
        public int UnmappedResultCode => HResult;
        // UTC, but COM's DATE has no word for it.
        public DateTime Date => DateTime.SpecifyKind(Machine.FromEpoch(Math.Floor(Json.Real(entry, "time"))),
            DateTimeKind.Unspecified);
        public string Title => Json.Text(entry, "title");
        public string Description => "";
        public string ClientApplicationID => Json.Text(entry, "client");
        public int ServerSelection => (int)Json.Number(entry, "server_selection");
        public string ServiceID => Json.Text(entry, "service");
        public string SupportUrl => "";
        public string UninstallationNotes => "";
        public StringCollection UninstallationSteps => new StringCollection(Enumerable.Empty<string>());
        public CategoryCollection Categories => new CategoryCollection(Enumerable.Empty<CategoryFacts>());
        public UpdateIdentity UpdateIdentity => new UpdateIdentity(Json.Text(entry, "id"),
            (int)Json.Number(entry, "revision"));
    }

    [Com("IUpdateHistoryEntryCollection")]
    public sealed class UpdateHistoryEntryCollection : ComList<UpdateHistoryEntry>
    {
        internal UpdateHistoryEntryCollection(IEnumerable<UpdateHistoryEntry> items) : base(items) { }
    }
}
