// Who may do what with files: Get-Acl and icacls.exe. What was set is in state.json; the rest inherits what
// C:\Windows gives (administrators and SYSTEM everything, users reading).
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Security.AccessControl;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace FleetPatch.StandIns
{
    public sealed class Grant
    {
        public string Sid { get; set; }
        public string Rights { get; set; }  // F, M, RX, W, R, or "WD,X,S": add files, without seeing or changing any
        public string Flags { get; set; }  // OICI or ""
        public bool Inherited { get; set; }

        static readonly Dictionary<string, string> letters = new Dictionary<string, string> { ["F"] = "FA",
            ["M"] = "0x1301bf", ["RX"] = "0x1200a9", ["R"] = "FR", ["W"] = "FW", ["WD,X,S"] = "0x100022" };
        static readonly Dictionary<string, int> masks = new Dictionary<string, int> { ["F"] = 0x1F01FF,
            ["M"] = 0x1301BF, ["RX"] = 0x1200A9, ["R"] = 0x120089, ["W"] = 0x100116, ["WD,X,S"] = 0x100022 };
        static readonly Dictionary<string, string> names = new Dictionary<string, string>
        {
            ["S-1-5-18"] = "SY", ["S-1-5-32-544"] = "BA", ["S-1-5-32-545"] = "BU", ["S-1-3-0"] = "CO",
                ["S-1-1-0"] = "WD", ["S-1-5-11"] = "AU",
        };

        public static bool IsRight(string rights) => letters.ContainsKey(rights);
        public static string Short(string sid) => names.TryGetValue(sid, out var name) ? name : sid;
        public int Mask => masks[Rights];
        public string Sddl => "(A;" + Flags + (Inherited ? "ID" : "") + ";" + letters[Rights] + ";;;" + Short(Sid)
            + ")";
    }

    public sealed class AclOfPath
    {
        public string Owner { get; set; }
        public bool Protected { get; set; }
        public List<Grant> Grants { get; } = new List<Grant>();

        static JsonObject Stored(JsonObject state, string path) =>
            state["acls"].AsObject().TryGetPropertyValue(path, out var acl) ? acl.AsObject() : null;

        public static AclOfPath Of(string path) => Machine.Current.Read(s => In(s, path));

        static AclOfPath In(JsonObject state, string path)
        {
            var acl = new AclOfPath { Owner = "S-1-5-32-544" };
            var stored = Stored(state, path);
            if (stored != null)
            {
                acl.Owner = Json.Text(stored, "owner");
                acl.Protected = Json.Flag(stored, "protected");
                foreach (var g in Json.List(stored, "grants"))
                    acl.Grants.Add(new Grant { Sid = Json.Text(g, "sid"), Rights = Json.Text(g, "rights"),
                        Flags = Json.Text(g, "flags") });
            }
            if (acl.Protected) return acl;
            var parent = Path.GetDirectoryName(path);
            var above = path.Length <= Machine.Current.SystemRoot.Length || parent == null ? Root() : In(state, parent);
            foreach (var g in above.Grants.Where(g => g.Flags != "" && acl.Grants.All(own => own.Sid != g.Sid)))
                acl.Grants.Add(new Grant { Sid = g.Sid, Rights = g.Rights, Flags = g.Flags, Inherited = true });
            return acl;
        }

        static AclOfPath Root()
        {
            var acl = new AclOfPath { Owner = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464" };
            foreach (var (sid, rights) in new[] { ("S-1-5-18", "F"), ("S-1-5-32-544", "F"), ("S-1-5-32-545", "RX"),
                ("S-1-3-0", "F") })
                acl.Grants.Add(new Grant { Sid = sid, Rights = rights, Flags = "OICI" });
            return acl;
        }

        public void Keep(string path)
        {
            var grants = new JsonArray(Grants.Where(g => !g.Inherited).Select(g =>
                (JsonNode)new JsonObject { ["sid"] = g.Sid, ["rights"] = g.Rights, ["flags"] = g.Flags }).ToArray());
            Machine.Current.Change(s => { s["acls"][path] = new JsonObject { ["owner"] = Owner,
                ["protected"] = Protected, ["grants"] = grants }; });
        }

        public string Sddl => "O:" + Grant.Short(Owner) + "G:SYD:" + (Protected ? "P" : "") + "AI"
            + string.Concat(Grants.Select(g => g.Sddl));
    }

    public sealed class SidStandIn
    {
        public SidStandIn(string value) { Value = value; }
        public string Value { get; }
        public override string ToString() => Value;
        public SidStandIn Translate(Type type) => this;
    }

    public sealed class AccessRuleStandIn
    {
        public SidStandIn IdentityReference { get; set; }
        public int FileSystemRights { get; set; }
        public AccessControlType AccessControlType => AccessControlType.Allow;
        public bool IsInherited { get; set; }
    }

    public sealed class FileSecurityStandIn
    {
        readonly AclOfPath acl;
        public FileSecurityStandIn(string path, AclOfPath acl) { Path = path; this.acl = acl; }
        public string Path { get; }
        public string Owner => "O:" + Grant.Short(acl.Owner);
        public string Sddl => acl.Sddl;
        public bool AreAccessRulesProtected => acl.Protected;
        public SidStandIn GetOwner(Type type) => new SidStandIn(acl.Owner);
        public AccessRuleStandIn[] Access => GetAccessRules(true, true, null);

        public AccessRuleStandIn[] GetAccessRules(bool own, bool inherited, Type type) =>
            acl.Grants.Where(g => g.Inherited ? inherited : own)
            .Select(g => new AccessRuleStandIn { IdentityReference = new SidStandIn(g.Sid), FileSystemRights = g.Mask,
                IsInherited = g.Inherited }).ToArray();

        public string GetSecurityDescriptorSddlForm(AccessControlSections sections) => Sddl;
    }

    [Cmdlet(VerbsCommon.Get, "Acl", DefaultParameterSetName = "Path")]
    public sealed class GetAclCommand : PSCmdlet
    {
        [Parameter(Position = 0, ParameterSetName = "Path")]
        public string[] Path { get; set; }

        [Parameter(Mandatory = true, ParameterSetName = "LiteralPath")]
        public string[] LiteralPath { get; set; }

        protected override void ProcessRecord()
        {
            foreach (var given in Path ?? LiteralPath ?? new[] { "." })
            {
                var path = SessionState.Path.GetUnresolvedProviderPathFromPSPath(given);
                if (File.Exists(path) || Directory.Exists(path))
                {
                    WriteObject(new FileSecurityStandIn(path, AclOfPath.Of(path)));
                    continue;
                }
                WriteError(new ErrorRecord(new ItemNotFoundException("Cannot find path '" + given
                    + "' because it does not exist."),
                    "PathNotFound", ErrorCategory.ObjectNotFound, given));
            }
        }
    }

    public static partial class Programs
    {
        static readonly Regex grantText = new Regex(@"^\*(S-1-[0-9-]+):((\(OI\)|\(CI\))*)\(?([A-Z,]+)\)?$");

        [Program("icacls.exe")]
        public static int Icacls(List<string> arguments, Printed printed)
        {
            if (arguments.Count < 2) throw new StandInException("icacls.exe: a path and what to do");
            var path = Paths.Normal(arguments[0]);
            if (!File.Exists(path) && !Directory.Exists(path))
            {
                printed.Error(arguments[0] + ": The system cannot find the file specified.");
                return 2;
            }
            if (Json.Flag(Machine.Current.Scenario, "icacls_fails"))
            {
                printed.Error(arguments[0] + ": Access is denied.");
                return 5;
            }
            var acl = AclOfPath.Of(path);
            for (var i = 1; i < arguments.Count; i++) i = Apply(acl, arguments, i);
            acl.Keep(path);
            printed.Line("Successfully processed 1 files; Failed processing 0 files");
            return 0;
        }

        static int Apply(AclOfPath acl, List<string> arguments, int i)
        {
            switch (arguments[i].ToLowerInvariant())
            {
                case "/inheritance:r":
                    acl.Protected = true;
                    acl.Grants.RemoveAll(g => g.Inherited);
                    return i;
                case "/setowner":
                    var owner = Next("icacls.exe", arguments, ref i);
                    if (!Regex.IsMatch(owner, @"^\*S-1-[0-9-]+$")) throw Unknown("icacls.exe", owner);
                    acl.Owner = owner.Substring(1);
                    return i;
                case "/grant":
                case "/grant:r":
                    while (i + 1 < arguments.Count && grantText.IsMatch(arguments[i + 1]))
                        Add(acl, grantText.Match(arguments[++i]));
                    return i;
                case "/remove":
                case "/remove:g":
                    var sid = Next("icacls.exe", arguments, ref i).TrimStart('*');
                    acl.Grants.RemoveAll(g => g.Sid == sid);
                    return i;
                case "/q":
                case "/c":
                    return i;
                default:
                    throw Unknown("icacls.exe", arguments[i]);
            }
        }

        static void Add(AclOfPath acl, Match grant)
        {
            var rights = grant.Groups[4].Value;
            if (!Grant.IsRight(rights)) throw Unknown("icacls.exe", grant.Value);
            acl.Grants.RemoveAll(g => g.Sid == grant.Groups[1].Value);
            acl.Grants.Add(new Grant { Sid = grant.Groups[1].Value, Rights = rights,
                Flags = grant.Groups[2].Value.Replace("(", "").Replace(")", "") });
        }
    }
}
