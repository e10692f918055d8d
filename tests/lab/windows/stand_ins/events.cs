// The event log: what the scenario begins with, and what the stand-ins write.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;
using System.Xml.Linq;

namespace FleetPatch.StandIns
{
    public static class Events
    {
        public static void Add(JsonObject state, string log, string provider, int id, string message,
            JsonObject data = null)
        {
            state["events"].AsArray().Add(new JsonObject
            {
                ["log"] = log, ["provider"] = provider, ["id"] = id, ["time"] = Machine.Now, ["message"] = message,
                ["data"] = data ?? new JsonObject(),
            });
        }
    }

    public sealed class EventPropertyStandIn
    {
        public object Value { get; set; }
    }

    public sealed class EventRecordStandIn
    {
        public string LogName { get; set; }
        public string ProviderName { get; set; }
        public int Id { get; set; }
        public DateTime? TimeCreated { get; set; }
        public string Message { get; set; }
        public byte? Level { get; set; }
        public string LevelDisplayName { get; set; }
        public long? RecordId { get; set; }
        internal JsonNode Data { get; set; }
        // The values in the order of the template: they are there also where no message can be rendered.
        public IList<EventPropertyStandIn> Properties => Data.AsObject()
            .Select(d => new EventPropertyStandIn { Value = (string)d.Value }).ToList();

        // As Windows renders it: without line breaks, in the namespace of events, each value by the name of its template.
        public string ToXml()
        {
            XNamespace space = "http://schemas.microsoft.com/win/2004/08/events/event";
            var data = Data.AsObject().Select(d => new XElement(space + "Data", new XAttribute("Name", d.Key),
                (string)d.Value));
            var body = new XElement(space + "EventData", data);
            if (ProviderName == "Microsoft-Windows-Servicing")
            {
                XNamespace setup = "http://manifests.microsoft.com/win/2004/08/windows/setup_provider";
                body = new XElement(space + "UserData", new XElement(setup + "CbsPackageInitiateChanges",
                    Data.AsObject().Select(d => new XElement(setup + d.Key, (string)d.Value))));
            }
            return new XElement(space + "Event",
                new XElement(space + "System", new XElement(space + "Provider", new XAttribute("Name", ProviderName)),
                    new XElement(space + "EventID", Id)),
                body).ToString(SaveOptions.DisableFormatting);
        }
    }
}

// Of the real cmdlets' names: error ids end with them.
namespace Microsoft.PowerShell.Commands
{
    using FleetPatch.StandIns;

    [Cmdlet(VerbsCommon.Get, "WinEvent")]
    public sealed class GetWinEventCommand : PSCmdlet
    {
        static readonly string[] Known = { "LogName", "ProviderName", "Id", "StartTime", "EndTime", "Level" };

        [Parameter(Mandatory = true)]
        public Hashtable FilterHashtable { get; set; }

        [Parameter]
        public long MaxEvents { get; set; } = long.MaxValue;

        [Parameter]
        public SwitchParameter Oldest { get; set; }

        protected override void ProcessRecord()
        {
            foreach (var key in FilterHashtable.Keys.Cast<string>()
                .Where(k => !Known.Contains(k, StringComparer.OrdinalIgnoreCase)))
                throw new StandInException("Get-WinEvent: unknown key '" + key + "' in -FilterHashtable");
            var all = Machine.Current.Read(s => s["events"].AsArray().Select((e, n) => new EventRecordStandIn
            {
                LogName = Json.Text(e, "log"), ProviderName = Json.Text(e, "provider"), Id = (int)Json.Number(e, "id"),
                TimeCreated = Machine.FromEpoch(Json.Real(e, "time"))
                    .ToLocalTime(), Message = Json.Text(e, "message"), Level = 4,
                LevelDisplayName = "Information", RecordId = n + 1,
                Data = Json.Field(e, "data"),
            }).ToList());
            var hits = all.Where(Matches).ToList();
            if (!Oldest) hits.Reverse();
            if (hits.Count == 0)
            {
                WriteError(new ErrorRecord(
                    new Exception("No events were found that match the specified selection criteria."),
                    "NoMatchingEventsFound", ErrorCategory.ObjectNotFound, null));
            }
            foreach (var hit in hits.Take((int)Math.Min(MaxEvents, int.MaxValue))) WriteObject(hit);
        }

        bool Matches(EventRecordStandIn found) =>
            Fits("LogName", found.LogName) && Fits("ProviderName", found.ProviderName) && Fits("Id", found.Id)
                && Fits("Level", (int)found.Level)
            && (Time("StartTime") == null || found.TimeCreated >= Time("StartTime"))
                && (Time("EndTime") == null || found.TimeCreated <= Time("EndTime"));

        object Asked(string key)
        {
            var name = FilterHashtable.Keys.Cast<string>().FirstOrDefault(k =>
                k.Equals(key, StringComparison.OrdinalIgnoreCase));
            var value = name == null ? null : FilterHashtable[name];
            return value is PSObject wrapped ? wrapped.BaseObject : value;
        }

        DateTime? Time(string key) => Asked(key) == null ? (DateTime?)null
            : ((DateTime)LanguagePrimitives.ConvertTo(Asked(key), typeof(DateTime))).ToLocalTime();

        bool Fits(string key, object actual)
        {
            var asked = Asked(key);
            if (asked == null) return true;
            var values = asked is IEnumerable many && !(asked is string) ? many.Cast<object>() : new[] { asked };
            return values.Any(v => LanguagePrimitives.Equals(actual, v, true));
        }
    }
}
