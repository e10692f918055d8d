// HKLM:\ for PowerShell, with the errors of the real provider.
using System;
using System.Collections.ObjectModel;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Provider;
using System.Security;
using Microsoft.Win32;

namespace FleetPatch.StandIns
{
    public sealed class RegistryTypeParameter
    {
        [Parameter(ValueFromPipelineByPropertyName = true)]
        public RegistryValueKind Type { get; set; } = RegistryValueKind.Unknown;
    }

    [CmdletProvider("Registry", ProviderCapabilities.ShouldProcess)]
    public sealed class RegistryProvider : NavigationCmdletProvider, IPropertyCmdletProvider,
        IDynamicPropertyCmdletProvider
    {
        public override char ItemSeparator => '\\';
        public override char AltItemSeparator => '/';

        protected override Collection<PSDriveInfo> InitializeDefaultDrives() => new Collection<PSDriveInfo>
        {
            new PSDriveInfo("HKLM", ProviderInfo, RegistryStore.Hive,
                "The configuration settings for the local computer", null),
        };

        static string Key(string path) => RegistryStore.KeyOf(path);

        // PowerShell on Linux joins paths with slashes.
        static string Shown(string path) => path.Replace('/', '\\');

        bool Missing(string path)
        {
            if (RegistryStore.Exists(Key(path))) return false;
            WriteError(new ErrorRecord(new ArgumentException("The registry key at the specified path does not exist."),
                "System.ArgumentException", ErrorCategory.InvalidArgument, path));
            return true;
        }

        protected override bool IsValidPath(string path) => true;
        protected override bool ItemExists(string path) => RegistryStore.Exists(Key(path));
        protected override bool IsItemContainer(string path) => ItemExists(path);

        // What it inherits looks for the key at each step of a path.
        protected override string GetChildName(string path)
        {
            var trimmed = Shown(path).TrimEnd('\\');
            return trimmed.Substring(trimmed.LastIndexOf('\\') + 1);
        }

        protected override bool HasChildItems(string path) =>
            ItemExists(path) && RegistryStore.Children(Key(path)).Count > 0;

        void Write(string path)
        {
            var key = Key(path);
            var item = new PSObject(new RegistryKeyStandIn(key));
            item.Properties.Add(new PSNoteProperty("Property", RegistryStore.Names(key).ToArray()));
            WriteItemObject(item, Shown(path), true);
        }

        // As the real one: a key that may not be read exists.
        protected override void GetItem(string path)
        {
            var key = Key(path);
            if (key != null && Json.List(Machine.Current.Scenario, "denied_keys").Any(denied =>
                key.Equals((string)denied, StringComparison.OrdinalIgnoreCase)))
                WriteError(new ErrorRecord(new SecurityException("Requested registry access is not allowed."),
                    "System.Security.SecurityException", ErrorCategory.PermissionDenied, path));
            else if (ItemExists(path)) Write(path);
        }

        protected override void GetChildItems(string path, bool recurse)
        {
            if (Missing(path)) return;
            foreach (var name in RegistryStore.Children(Key(path)))
            {
                Write(path + "\\" + name);
                if (recurse) GetChildItems(path + "\\" + name, true);
            }
        }

        protected override void GetChildNames(string path, ReturnContainers returnContainers)
        {
            if (Missing(path)) return;
            foreach (var name in RegistryStore.Children(Key(path))) WriteItemObject(name, name, true);
        }

        protected override void NewItem(string path, string type, object value)
        {
            var key = Key(path) ?? throw new StandInException("only HKEY_LOCAL_MACHINE is there, not " + path);
            if (RegistryStore.Exists(key))
            {
                if (!Force)
                {
                    WriteError(new ErrorRecord(new IOException("A key in this path already exists."),
                        "System.IO.IOException", ErrorCategory.ResourceExists, path));
                    return;
                }
                RegistryStore.Delete(key);  // as the real one does: -Force empties a key that is there
            }
            var parent = key.Contains('\\') ? key.Substring(0, key.LastIndexOf('\\')) : "";
            if (!Force && Missing(RegistryStore.Hive + "\\" + parent)) return;
            RegistryStore.Create(key, false);
            if (value != null) RegistryStore.Set(key, "(default)", value, RegistryValueKind.Unknown);
            Write(path);
        }

        protected override void RemoveItem(string path, bool recurse)
        {
            if (!Missing(path)) RegistryStore.Delete(Key(path));
        }

        PSArgumentException NoProperty(string name, string path) =>
            new PSArgumentException("Property " + name + " does not exist at path " + Shown(path) + ".");

        void Report(string name, string path) => WriteError(new ErrorRecord(NoProperty(name, path),
            "System.Management.Automation.PSArgumentException", ErrorCategory.InvalidArgument, path));

        public void GetProperty(string path, Collection<string> names)
        {
            if (!RegistryStore.Exists(Key(path)))
            {
                WriteError(new ErrorRecord(new ItemNotFoundException("Cannot find path '" + Shown(path)
                    + "' because it does not exist."),
                    "PathNotFound", ErrorCategory.ObjectNotFound, path));
                return;
            }
            var all = RegistryStore.Names(Key(path));
            var result = new PSObject();
            var found = false;
            foreach (var asked in names == null || names.Count == 0 ? new Collection<string> { "*" } : names)
            {
                var pattern = new WildcardPattern(asked, WildcardOptions.IgnoreCase);
                var hits = all.Where(n => pattern.IsMatch(n)).ToList();
                if (hits.Count == 0 && !WildcardPattern.ContainsWildcardCharacters(asked))
                {
                    Report(asked, path);
                    continue;
                }
                foreach (var name in hits.Where(n => result.Properties[n] == null))
                {
                    result.Properties.Add(new PSNoteProperty(name, RegistryStore.Get(Key(path), name)));
                    found = true;
                }
            }
            if (found) WritePropertyObject(result, Shown(path));
        }

        public void SetProperty(string path, PSObject values)
        {
            if (Missing(path)) return;
            var kind = (DynamicParameters as RegistryTypeParameter)?.Type ?? RegistryValueKind.Unknown;
            foreach (var property in values.Properties)
                RegistryStore.Set(Key(path), property.Name, property.Value, kind);
        }

        public void NewProperty(string path, string name, string type, object value)
        {
            if (Missing(path)) return;
            if (!Force && RegistryStore.Names(Key(path)).Contains(name, StringComparer.OrdinalIgnoreCase))
            {
                WriteError(new ErrorRecord(new IOException("The property already exists."), "System.IO.IOException",
                    ErrorCategory.ResourceExists, path));
                return;
            }
            var kind = string.IsNullOrEmpty(type) ? RegistryValueKind.Unknown
                : (RegistryValueKind)LanguagePrimitives.ConvertTo(type, typeof(RegistryValueKind));
            RegistryStore.Set(Key(path), name, value, kind);
            var written = new PSObject();
            written.Properties.Add(new PSNoteProperty(name, RegistryStore.Get(Key(path), name)));
            WritePropertyObject(written, Shown(path));
        }

        public void RemoveProperty(string path, string name)
        {
            if (Missing(path)) return;
            if (RegistryStore.Names(Key(path)).Contains(name, StringComparer.OrdinalIgnoreCase))
                RegistryStore.Remove(Key(path), name);
            else Report(name, path);
        }

        public void ClearProperty(string path, Collection<string> names) =>
            throw new StandInException("Clear-ItemProperty on the registry");
        public void RenameProperty(string path, string source, string target) =>
            throw new StandInException("Rename-ItemProperty on the registry");
        public void CopyProperty(string path, string name, string target, string targetName) =>
            throw new StandInException("Copy-ItemProperty on the registry");
        public void MoveProperty(string path, string name, string target, string targetName) =>
            throw new StandInException("Move-ItemProperty on the registry");
        public object GetPropertyDynamicParameters(string path, Collection<string> names) => null;
        public object SetPropertyDynamicParameters(string path, PSObject value) => new RegistryTypeParameter();
        public object ClearPropertyDynamicParameters(string path, Collection<string> names) => null;
        public object NewPropertyDynamicParameters(string path, string name, string type, object value) => null;
        public object RemovePropertyDynamicParameters(string path, string name) => null;
        public object RenamePropertyDynamicParameters(string path, string source, string target) => null;
        public object CopyPropertyDynamicParameters(string path, string name, string target, string targetName) => null;
        public object MovePropertyDynamicParameters(string path, string name, string target, string targetName) => null;
    }
}
