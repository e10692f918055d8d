// Windows Installer. A package is a text here, with a line for each field: name, version, code, reboot. Its product
// stands in the registry, with the properties of the command line.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Text.RegularExpressions;
using Microsoft.Win32;

namespace FleetPatch.StandIns
{
    public static partial class Programs
    {
        const string Products = @"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall";

        [Program("msiexec.exe")]
        public static int Msiexec(List<string> arguments, Printed printed)
        {
            string install = null, remove = null;
            var quiet = false;
            var properties = new Dictionary<string, string>();
            for (var i = 0; i < arguments.Count; i++)
            {
                switch (arguments[i].ToLowerInvariant())
                {
                    case "/i": install = Next("msiexec.exe", arguments, ref i); break;
                    case "/x": remove = Next("msiexec.exe", arguments, ref i); break;
                    case "/qn": quiet = true; break;
                    case "/norestart": break;
                    default:
                        var property = Regex.Match(arguments[i], "^([A-Z][A-Z0-9_.]*)=(.*)$", RegexOptions.Singleline);
                        if (!property.Success) throw Unknown("msiexec.exe", arguments[i]);
                        properties[property.Groups[1].Value] = property.Groups[2].Value;
                        break;
                }
            }
            // Without /qn it asks somebody, and nobody sees the question.
            if (!quiet || (install == null) == (remove == null)) throw Unknown("msiexec.exe", string.Join(" ", arguments));
            return remove != null ? Remove(remove) : Install(install, properties);
        }

        static int Remove(string code)
        {
            var key = Products + "\\" + code;
            if (!RegistryStore.Exists(key)) return 1605;  // only for products that are installed
            RegistryStore.Delete(key);
            return 0;
        }

        static int Install(string path, Dictionary<string, string> properties)
        {
            if (!File.Exists(path)) return 1619;
            var package = File.ReadAllLines(path).Select(line => line.Split('=', 2)).Where(pair => pair.Length == 2)
                .ToDictionary(pair => pair[0], pair => pair[1]);
            if (!package.ContainsKey("code")) return 1620;  // not a package
            foreach (var child in RegistryStore.Children(Products))
            {
                var other = Products + "\\" + child;
                if ((string)RegistryStore.Get(other, "DisplayName") != package["name"]) continue;
                if (new Version((string)RegistryStore.Get(other, "DisplayVersion")) > new Version(package["version"]))
                    return 1603;  // a newer version is there
                RegistryStore.Delete(other);
            }
            var key = Products + "\\" + package["code"];
            RegistryStore.Create(key, false);
            RegistryStore.Set(key, "DisplayName", package["name"], RegistryValueKind.String);
            RegistryStore.Set(key, "DisplayVersion", package["version"], RegistryValueKind.String);
            foreach (var property in properties)
                RegistryStore.Set(key, property.Key, property.Value, RegistryValueKind.String);
            return package.ContainsKey("reboot") ? 3010 : 0;
        }
    }

    public sealed class EndedProcessStandIn
    {
        public int ExitCode { get; set; }
    }
}

namespace Microsoft.PowerShell.Commands
{
    using FleetPatch.StandIns;

    // Start-Process of a program that has a stand-in, and only to its end.
    [Cmdlet(VerbsLifecycle.Start, "FpProcessStandIn")]
    [StandsInFor("Start-Process")]
    public sealed class StartProcessCommand : PSCmdlet
    {
        [Parameter(Mandatory = true)]
        public string FilePath { get; set; }

        [Parameter]
        public string[] ArgumentList { get; set; } = Array.Empty<string>();

        [Parameter]
        public SwitchParameter Wait { get; set; }

        [Parameter]
        public SwitchParameter PassThru { get; set; }

        [Parameter]
        public string WindowStyle { get; set; }

        protected override void ProcessRecord()
        {
            if (!Wait || !PassThru) throw new StandInException("Start-Process without -Wait and -PassThru");
            if (!FilePath.Equals(Path.Combine(Machine.Current.SystemRoot, "System32", "msiexec.exe"),
                StringComparison.OrdinalIgnoreCase)) throw new StandInException("Start-Process " + FilePath);
            // The cmdlet joins the list with spaces, and adds no quotes. The program splits the line.
            var words = Regex.Matches(string.Join(" ", ArgumentList), "(?:[^\\s\"]|\"(?:[^\"]|\"\")*\")+")
                .Select(word => Regex.Replace(word.Value, "\"(\"?)", "$1")).ToList();
            WriteObject(new EndedProcessStandIn { ExitCode = Programs.Msiexec(words, new Printed()) });
        }
    }
}
