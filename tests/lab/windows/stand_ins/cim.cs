// Get-CimInstance and Invoke-CimMethod: only classes that the scenario has, with real filters.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace FleetPatch.StandIns
{
    public static class Cim
    {
        public const string Default = "root/cimv2";

        public static string Name(string space, string type) =>
            (string.IsNullOrEmpty(space) ? Default : space.Replace('\\', '/').Trim('/')) + ":" + type;

        public static List<Dictionary<string, object>> Instances(string name)
        {
            var classes = Machine.Current.Scenario["cim"].AsObject();
            var key = classes.Select(c => c.Key).FirstOrDefault(k =>
                k.Equals(name, StringComparison.OrdinalIgnoreCase));
            var result = new List<Dictionary<string, object>>();
            if (name.Equals(Name("", "Win32_Service"), StringComparison.OrdinalIgnoreCase))
                return Services.All().Select(Service).ToList();
            if (name.Equals(Name("", "Win32_Process"), StringComparison.OrdinalIgnoreCase))
                return Processes.All().Concat(Services.Processes()).Select(Process).ToList();
            if (name.Equals(Name("", "Win32_QuickFixEngineering"), StringComparison.OrdinalIgnoreCase))
                return HotFixes();
            if (key == null) return null;
            foreach (var instance in classes[key].AsArray())
            {
                var properties = new Dictionary<string, object>(StringComparer.OrdinalIgnoreCase);
                foreach (var field in instance.AsObject()) properties[field.Key] = Value(field.Value);
                if (key.EndsWith(":Win32_OperatingSystem", StringComparison.OrdinalIgnoreCase))
                {
                    // whoever sets the clock moves the time of the boot along
                    properties["LastBootUpTime"] = Machine.FromEpoch(Machine.Current.BootTime
                        + Machine.Current.Read(s => (double)s["clock_ahead"])).ToLocalTime();
                    properties["LocalDateTime"] = DateTime.Now;
                }
                result.Add(properties);
            }
            return result;
        }

        // WMI counts bytes without a sign; the scenario writes {"uint64": n} for them.
        static object Value(JsonNode node) => node is JsonObject typed && typed.ContainsKey("uint64")
            ? (ulong)typed["uint64"].AsValue() : Json.Plain(node);

        static Dictionary<string, object> Service(ServiceStandIn service) =>
            new Dictionary<string, object>(StringComparer.OrdinalIgnoreCase)
        {
            ["Name"] = service.Name, ["DisplayName"] = service.DisplayName, ["State"] = service.Status.ToString(),
            ["StartMode"] = Services.Text(service.Name, "start_type").Replace("Automatic", "Auto"),
            ["ProcessId"] = (uint)Services.ProcessOf(service.Name),
            ["ExitCode"] = Services.StateOf(service.Name).ExitCode,
        };

        static Dictionary<string, object> Process(ProcessStandIn process) =>
            new Dictionary<string, object>(StringComparer.OrdinalIgnoreCase)
        {
            ["ProcessId"] = (uint)process.Id, ["Name"] = process.Name + ".exe", ["CreationDate"] = process.StartTime,
            ["KernelModeTime"] = 0ul, ["UserModeTime"] = process.ProcessorTime,
            ["ReadTransferCount"] = process.TransferredBytes, ["WriteTransferCount"] = 0ul,
        };

        static List<Dictionary<string, object>> HotFixes() =>
            Machine.Current.Read(s => s["hot_fixes"].AsArray().Select(h => (string)h).ToList())
            .Select(h => new Dictionary<string, object>(StringComparer.OrdinalIgnoreCase) { ["HotFixID"] = h,
                ["Description"] = "Security Update" }).ToList();
    }
}

// Of the real cmdlets' names: error ids end with them.
namespace Microsoft.Management.Infrastructure.CimCmdlets
{
    using FleetPatch.StandIns;

    public abstract class CimCommand : PSCmdlet
    {
        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Class")]
        public string ClassName { get; set; }

        [Parameter]
        public string Namespace { get; set; }

        [Parameter]
        public uint OperationTimeoutSec { get; set; }

        protected virtual string Whole => Cim.Name(Namespace, ClassName);

        protected void Fail(uint code, string text, ErrorCategory category) =>
            WriteError(new ErrorRecord(ComError.Of(code, text),
            "HRESULT 0x" + code.ToString("x8"), category, Whole));

        protected static PSObject Shown(Dictionary<string, object> properties, IEnumerable<string> names)
        {
            var shown = new PSObject();
            foreach (var name in names) shown.Properties.Add(new PSNoteProperty(name, properties[name]));
            return shown;
        }
    }

    [Cmdlet(VerbsCommon.Get, "CimInstance", DefaultParameterSetName = "Class")]
    public sealed class GetCimInstanceCommand : CimCommand
    {
        static readonly Regex Term = new Regex(
            @"^\s*(\w+)\s*(=|!=|<>|<=|>=|<|>|like)\s*('([^']*)'|""([^""]*)""|-?\d+|true|false)\s*",
            RegexOptions.IgnoreCase);

        [Parameter]
        public string Filter { get; set; }

        [Parameter]
        public string[] Property { get; set; }

        protected override void ProcessRecord()
        {
            var broken = Json.List(Machine.Current.Scenario, "broken_cim_classes").Select(c => (string)c);
            if (broken.Contains(ClassName, StringComparer.OrdinalIgnoreCase))
            {
                Fail(0x80041001, "Generic failure", ErrorCategory.NotSpecified);
                return;
            }
            var instances = Cim.Instances(Whole);
            if (instances == null)
            {
                var known = Machine.Current.Scenario["cim"].AsObject()
                    .Any(c => c.Key.StartsWith(Cim.Name(Namespace, ""), StringComparison.OrdinalIgnoreCase));
                if (known || Namespace == null) Fail(0x80041010, "Invalid class", ErrorCategory.MetadataError);
                else Fail(0x8004100e, "Invalid namespace", ErrorCategory.MetadataError);
                return;
            }
            foreach (var instance in instances.Where(Matches))
            {
                var shown = Shown(instance, Property ?? instance.Keys.AsEnumerable());
                shown.TypeNames.Insert(0, InvokeCimMethodCommand.OfInstance + Whole.Replace(':', '/'));
                WriteObject(shown);
            }
        }

        // Terms with "and" between; a filter that this does not understand is an error, not everything or nothing.
        bool Matches(Dictionary<string, object> instance)
        {
            var rest = Filter ?? "";
            var all = true;
            while (rest != "")
            {
                var term = Term.Match(rest);
                if (!term.Success || !instance.ContainsKey(term.Groups[1].Value))
                    throw ComError.Of(0x80041017, "Invalid query: " + Filter);
                all &= Holds(instance[term.Groups[1].Value], term.Groups[2].Value.ToLowerInvariant(),
                    term.Groups[3].Value.Trim('\'', '"'));
                rest = rest.Substring(term.Length);
                if (rest == "") break;
                if (!rest.StartsWith("and ", StringComparison.OrdinalIgnoreCase))
                    throw ComError.Of(0x80041017, "Invalid query: " + Filter);
                rest = rest.Substring(4);
            }
            return all;
        }

        static bool Holds(object actual, string sign, string wanted)
        {
            if (sign == "like")
                return new WildcardPattern(wanted.Replace('%', '*').Replace('_', '?'), WildcardOptions.IgnoreCase)
                    .IsMatch(Convert.ToString(actual));
            var order = LanguagePrimitives.Compare(actual, actual is bool
                ? (object)wanted.Equals("true", StringComparison.OrdinalIgnoreCase) : wanted, true);
            switch (sign)
            {
                case "=": return order == 0;
                case "<": return order < 0;
                case ">": return order > 0;
                case "<=": return order <= 0;
                case ">=": return order >= 0;
                default: return order != 0;
            }
        }
    }

    [Cmdlet(VerbsLifecycle.Invoke, "CimMethod", DefaultParameterSetName = "Class")]
    public sealed class InvokeCimMethodCommand : CimCommand
    {
        internal const string OfInstance = "Microsoft.Management.Infrastructure.CimInstance#";

        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Instance")]
        public PSObject InputObject { get; set; }

        protected override string Whole => InputObject == null ? base.Whole
            : Regex.Replace(InputObject.TypeNames[0].Substring(OfInstance.Length), "/(?=[^/]*$)", ":");

        [Parameter(Position = 1, Mandatory = true)]
        public string MethodName { get; set; }

        [Parameter]
        public IDictionary Arguments { get; set; }

        protected override void ProcessRecord()
        {
            var methods = Machine.Current.Scenario["cim_methods"].AsObject();
            // An answer to one argument has it behind the method's name: "root/cimv2:Win32_X.Method(1)".
            var asked = Arguments == null ? "" : "(" + string.Join(",", Arguments.Values.Cast<object>()) + ")";
            var key = methods.Select(m => m.Key).FirstOrDefault(k =>
                k.Equals(Whole + "." + MethodName + asked, StringComparison.OrdinalIgnoreCase));
            if (key == null) { Fail(0x80041010, "Invalid class or method", ErrorCategory.MetadataError); return; }
            var answer = methods[key].AsObject().ToDictionary(f => f.Key, f =>
                Json.Plain(f.Value), StringComparer.OrdinalIgnoreCase);
            WriteObject(Shown(answer, answer.Keys));
        }
    }
}
