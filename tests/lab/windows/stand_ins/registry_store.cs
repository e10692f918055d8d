// The registry: keys of HKEY_LOCAL_MACHINE with their values, in state.json. A volatile key is gone after a reboot.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json.Nodes;
using Microsoft.Win32;

namespace FleetPatch.StandIns
{
    public static class RegistryStore
    {
        public const string Hive = "HKEY_LOCAL_MACHINE";

        static JsonObject Keys(JsonObject state) => state["registry"].AsObject();

        static JsonObject Values(JsonObject state, string key) => Keys(state)[key]["values"].AsObject();

        // "HKEY_LOCAL_MACHINE\SOFTWARE\X" -> "SOFTWARE\X"; "" is the hive itself; null: another hive.
        public static string KeyOf(string path)
        {
            var parts = path.Split(new[] { '\\', '/' }, StringSplitOptions.RemoveEmptyEntries);
            if (parts.Length == 0) return null;
            if (parts[0].Equals(Hive, StringComparison.OrdinalIgnoreCase)
                || parts[0].Equals("HKLM", StringComparison.OrdinalIgnoreCase))
                return string.Join("\\", parts.Skip(1));
            return null;
        }

        static string Parent(string key) => key.Contains('\\') ? key.Substring(0, key.LastIndexOf('\\')) : "";

        static bool Has(JsonObject state, string key) => key == "" || Keys(state).ContainsKey(key);

        public static bool Exists(string key) => key != null && Machine.Current.Read(s => Has(s, key));

        public static List<string> Children(string key) => Machine.Current.Read(s => ChildrenIn(s, key));

        static List<string> ChildrenIn(JsonObject state, string key)
        {
            var start = key == "" ? "" : key + "\\";
            return Keys(state).Select(k => k.Key)
                .Where(k => k.StartsWith(start, StringComparison.OrdinalIgnoreCase) && k.Length > start.Length
                    && k.IndexOf('\\', start.Length) < 0)
                .Select(k => k.Substring(start.Length)).OrderBy(k => k, StringComparer.OrdinalIgnoreCase).ToList();
        }

        // Says whether it is new. Keys on the way are made as well, and are as volatile as the key itself.
        public static bool Create(string key, bool isVolatile)
        {
            return Machine.Current.Change(state => CreateIn(state, key, isVolatile));
        }

        static bool CreateIn(JsonObject state, string key, bool isVolatile)
        {
            if (Has(state, key)) return false;
            var parent = Parent(key);
            CreateIn(state, parent, isVolatile);
            if (!isVolatile && parent != "" && (bool)Keys(state)[parent]["volatile"])
                throw new IOException("Cannot create a stable subkey under a volatile parent key.");
            Keys(state)[key] = new JsonObject { ["volatile"] = isVolatile, ["values"] = new JsonObject() };
            return true;
        }

        public static void Delete(string key)
        {
            Machine.Current.Change(state =>
            {
                foreach (var old in Keys(state).Select(k => k.Key)
                    .Where(k => k.Equals(key, StringComparison.OrdinalIgnoreCase)
                    || k.StartsWith(key + "\\", StringComparison.OrdinalIgnoreCase)).ToList()) Keys(state).Remove(old);
            });
        }

        public static List<string> Names(string key) =>
            key == "" ? new List<string>() : Machine.Current.Read(s => Values(s, key).Select(v => v.Key).ToList());

        public static object Get(string key, string name) => Machine.Current.Read(s =>
        {
            if (key == "" || !Has(s, key) || !Values(s, key).TryGetPropertyValue(name, out var value)) return null;
            return Servicing.IsFlag(key, name) ? Servicing.Flag(s, Decoded(value)) : Decoded(value);
        });

        public static RegistryValueKind Kind(string key, string name) =>
            Machine.Current.Read(s => Enum.Parse<RegistryValueKind>((string)Values(s, key)[name]["kind"]));

        public static void Set(string key, string name, object value, RegistryValueKind kind)
        {
            if (value is System.Management.Automation.PSObject wrapped) value = wrapped.BaseObject;
            if (kind == RegistryValueKind.Unknown) kind = KindOf(value);
            var data = Encoded(value, kind);
            Machine.Current.Change(s =>
            {
                if (!Has(s, key)) throw new IOException("The key is marked for deletion.");
                Values(s, key)[name] = new JsonObject { ["kind"] = kind.ToString(), ["data"] = data };
            });
        }

        public static void Remove(string key, string name) =>
            Machine.Current.Change(s => { Values(s, key).Remove(name); });

        static RegistryValueKind KindOf(object value)
        {
            if (value is int || value is uint) return RegistryValueKind.DWord;
            if (value is long || value is ulong) return RegistryValueKind.QWord;
            if (value is byte[]) return RegistryValueKind.Binary;
            return value is System.Collections.IEnumerable && !(value is string) ? RegistryValueKind.MultiString
                : RegistryValueKind.String;
        }

        static JsonNode Encoded(object value, RegistryValueKind kind)
        {
            switch (kind)
            {
                case RegistryValueKind.DWord: return unchecked((int)Convert.ToInt64(value));
                case RegistryValueKind.QWord: return Convert.ToInt64(value);
                case RegistryValueKind.Binary: return Convert.ToBase64String((byte[])value);
                case RegistryValueKind.MultiString:
                    var texts = value is string one ? new[] { one } : ((System.Collections.IEnumerable)value)
                        .Cast<object>().Select(Convert.ToString);
                    return new JsonArray(texts.Select(t => (JsonNode)t).ToArray());
                default: return Convert.ToString(value);
            }
        }

        static object Decoded(JsonNode value)
        {
            switch (Enum.Parse<RegistryValueKind>(Json.Text(value, "kind")))
            {
                case RegistryValueKind.DWord: return unchecked((int)Json.Number(value, "data"));
                case RegistryValueKind.QWord: return Json.Number(value, "data");
                case RegistryValueKind.Binary: return Convert.FromBase64String(Json.Text(value, "data"));
                case RegistryValueKind.MultiString: return Json.List(value, "data").Select(t => (string)t).ToArray();
                default: return Json.Text(value, "data");
            }
        }
    }

    // What Get-Item and Get-ChildItem return: what scripts use of Microsoft.Win32.RegistryKey.
    public sealed class RegistryKeyStandIn : IDisposable
    {
        readonly string key;
        public RegistryKeyStandIn(string key) { this.key = key; }
        public string Name => key == "" ? RegistryStore.Hive : RegistryStore.Hive + "\\" + key;
        public int SubKeyCount => RegistryStore.Children(key).Count;
        public int ValueCount => RegistryStore.Names(key).Count;
        public string[] GetSubKeyNames() => RegistryStore.Children(key).ToArray();
        public string[] GetValueNames() => RegistryStore.Names(key).ToArray();
        public object GetValue(string name) => RegistryStore.Get(key, name);
        public object GetValue(string name, object other) => RegistryStore.Get(key, name) ?? other;
        public object GetValue(string name, object other, RegistryValueOptions options) => GetValue(name, other);
        public RegistryValueKind GetValueKind(string name) => RegistryStore.Kind(key, name);
        public RegistryKeyStandIn OpenSubKey(string name) => Open(name);
        public RegistryKeyStandIn OpenSubKey(string name, bool writable) => Open(name);
        public void SetValue(string name, object value) => RegistryStore.Set(key, name, value,
            RegistryValueKind.Unknown);
        public void SetValue(string name, object value, RegistryValueKind kind) =>
            RegistryStore.Set(key, name, value, kind);
        public void Close() { }
        public void Dispose() { }
        public override string ToString() => Name;

        RegistryKeyStandIn Open(string name)
        {
            var below = key == "" ? name : key + "\\" + name;
            return RegistryStore.Exists(below) ? new RegistryKeyStandIn(below) : null;
        }
    }
}
