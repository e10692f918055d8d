// Which statements of scripts were executed, for tests/ci/powershell_coverage.py. It is off unless the environment
// variable POWERSHELL_COVERAGE names a folder. There, texts/ gets each script's text, named by its hash, and each
// process a file *.hits with a line for each statement that began: hash, start and end of the statement in the text.
// Lines are written at once: a machine of the tests may lose its power at any time.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq.Expressions;
using System.Management.Automation;
using System.Management.Automation.Host;
using System.Management.Automation.Language;
using System.Management.Automation.Runspaces;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;

namespace FleetPatch.StandIns
{
    public static class Coverage
    {
        const string Variable = "POWERSHELL_COVERAGE";
        const BindingFlags Any = BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public;
        static readonly string folder = Environment.GetEnvironmentVariable(Variable);
        static readonly HashSet<IScriptExtent> seen = new HashSet<IScriptExtent>(ReferenceEqualityComparer.Instance);
        static readonly HashSet<string> written = new HashSet<string>();
        static readonly Dictionary<string, string> hashes = new Dictionary<string, string>();
        static readonly Func<Runspace, IScriptExtent> position = IsOn ? Position() : null;
        static StreamWriter hits;

        public static bool IsOn => !string.IsNullOrEmpty(folder);

        // From now on the runspace reports each statement to its host, as after Set-PSDebug -Trace 1.
        public static void Follow(Runspace runspace)
        {
            if (!IsOn) return;
            var context = typeof(Runspace).GetProperty("ExecutionContext", Any).GetValue(runspace);
            var debugger = context.GetType().GetProperty("Debugger", Any).GetValue(context);
            debugger.GetType().GetMethod("EnableTracing", Any).Invoke(debugger, new object[] { 1, null });
        }

        // Takes a line that a host is to show. Returns whether it was such a report, for nobody to see.
        public static bool Take(string message)
        {
            if (!IsOn || !message.Contains(">>>>")) return false;
            var extent = position(Runspace.DefaultRunspace);
            if (extent != null) Add(extent);
            return true;
        }

        static void Add(IScriptExtent extent)
        {
            lock (seen)
            {
                if (!seen.Add(extent)) return;
                var text = extent.StartScriptPosition.GetFullScript();
                if (string.IsNullOrEmpty(text)) return;
                if (!hashes.TryGetValue(text, out var hash)) hashes[text] = hash = Keep(text);
                var line = hash + " " + extent.StartOffset + " " + extent.EndOffset + "\n";
                if (!written.Add(line)) return;
                if (hits == null)
                {
                    var path = Path.Combine(folder, Guid.NewGuid().ToString("n") + ".hits");
                    hits = new StreamWriter(new FileStream(path, FileMode.CreateNew)) { AutoFlush = true };
                }
                hits.Write(line);
            }
        }

        static string Keep(string text)
        {
            var bytes = new UTF8Encoding(false).GetBytes(text);
            var hash = Convert.ToHexString(SHA256.HashData(bytes)).Substring(0, 20);
            var texts = Path.Combine(folder, "texts");
            var path = Path.Combine(texts, hash);
            if (File.Exists(path)) return hash;
            Directory.CreateDirectory(texts);
            var fresh = Path.Combine(folder, Guid.NewGuid().ToString("n") + ".new");
            File.WriteAllBytes(fresh, bytes);
            File.Move(fresh, path, true);
            return hash;
        }

        // (Runspace r) => the place in the text of the statement that begins: PowerShell tells its line only.
        static Func<Runspace, IScriptExtent> Position()
        {
            var runspace = Expression.Parameter(typeof(Runspace));
            var stack = Expression.Field(
                Expression.Property(Expression.Property(runspace, Of(typeof(Runspace), "ExecutionContext")), "Debugger"),
                "_callStack");
            var last = Expression.Call(stack, stack.Type.GetMethod("LastFunctionContext", Any));
            return Expression.Lambda<Func<Runspace, IScriptExtent>>(
                Expression.Property(last, Of(last.Type, "CurrentPosition")), runspace).Compile();
        }

        static PropertyInfo Of(Type type, string name) => type.GetProperty(name, Any);
    }
}
