// A runspace as powershell.exe on Windows begins with: the commands that Linux lacks are there, and $PID is the
// request's own number.
using System;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;

namespace FleetPatch.StandIns
{
    // A cmdlet of these stand-ins; As is the name under which scripts call it, where PowerShell has one of that name.
    [AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
    public sealed class StandsInForAttribute : Attribute
    {
        public string Name { get; }
        public StandsInForAttribute(string name) { Name = name; }
    }

    // A program of System32: called by its name or by its whole path.
    [AttributeUsage(AttributeTargets.Method)]
    public sealed class ProgramAttribute : Attribute
    {
        public string Path { get; }
        public ProgramAttribute(string path) { Path = path; }
    }

    public static class Session
    {
        static readonly MethodInfo setRaw = typeof(PSVariable)
            .GetMethod("SetValueRaw", BindingFlags.NonPublic | BindingFlags.Instance);

        public static InitialSessionState Create()
        {
            var state = InitialSessionState.CreateDefault2();
            state.ThreadOptions = PSThreadOptions.UseCurrentThread;
            AddModules(state);
            state.Providers.Add(new SessionStateProviderEntry("Registry", typeof(RegistryProvider), null));
            foreach (var type in typeof(Session).Assembly.GetTypes())
            {
                var cmdlet = type.GetCustomAttribute<CmdletAttribute>();
                if (cmdlet == null) continue;
                var name = cmdlet.VerbName + "-" + cmdlet.NounName;
                state.Commands.Add(new SessionStateCmdletEntry(name, type, null));
                foreach (var other in type.GetCustomAttributes<StandsInForAttribute>()) Alias(state, other.Name, name);
            }
            foreach (var method in typeof(Programs).GetMethods())
            {
                var program = method.GetCustomAttribute<ProgramAttribute>();
                if (program == null) continue;
                var function = "FpProgram" + method.Name;
                var body = "[FleetPatch.StandIns.Programs]::Run('" + method.Name
                    + "', $args, $ExecutionContext.SessionState)";
                state.Commands.Add(new SessionStateFunctionEntry(function, body, ScopedItemOptions.AllScope, null));
                var file = Path.GetFileName(program.Path);
                Alias(state, file, function);
                Alias(state, Path.GetFileNameWithoutExtension(file), function);
                var whole = Path.Combine(Machine.Current.SystemRoot, "System32", program.Path);
                Alias(state, whole, function);
                MakeFile(whole);
            }
            return state;
        }

        // The commands of the modules that PowerShell would find on PATH and load in each runspace, which costs more
        // than most scripts.
        static void AddModules(InitialSessionState state)
        {
            foreach (var module in new[] { "Commands.Management", "Commands.Utility", "Security" })
            foreach (var type in Assembly.Load("Microsoft.PowerShell." + module).GetTypes())
            {
                var cmdlet = type.GetCustomAttribute<CmdletAttribute>();
                if (cmdlet == null || type.IsAbstract) continue;
                state.Commands.Add(new SessionStateCmdletEntry(cmdlet.VerbName + "-" + cmdlet.NounName, type, null));
            }
            state.Variables.Add(new SessionStateVariableEntry("PSModuleAutoLoadingPreference",
                PSModuleAutoLoadingPreference.None, ""));
        }

        static void Alias(InitialSessionState state, string name, string command) =>
            state.Commands.Add(new SessionStateAliasEntry(name, command, "", ScopedItemOptions.AllScope));

        // So that Test-Path says of a program what it says on Windows.
        static void MakeFile(string path)
        {
            if (File.Exists(path)) return;
            Directory.CreateDirectory(Path.GetDirectoryName(path));
            File.WriteAllText(path, "");
        }

        public static void Prepare(Runspace runspace, Request request)
        {
            var variables = runspace.SessionStateProxy.PSVariable;
            setRaw.Invoke(variables.Get("PID"), new object[] { request.Pid, false });
            variables.Set("LASTEXITCODE", null);
            var home = Path.Combine(Machine.Current.SystemRoot, "System32");
            Directory.CreateDirectory(home);
            var files = runspace.SessionStateProxy.Provider.GetOne("FileSystem");
            var root = Path.Combine(Machine.Current.Folder, "C");
            runspace.SessionStateProxy.Drive.New(new PSDriveInfo("C", files, root, "", null), "global");
            runspace.SessionStateProxy.Path.SetLocation(home);
            if (!(runspace.SessionStateProxy.Drive.GetAll().Any(d => d.Name == "HKLM")))
                throw new StandInException("no drive HKLM");
            Coverage.Follow(runspace);
        }

        public static int? LastExitCode(Runspace runspace)
        {
            var value = runspace.SessionStateProxy.PSVariable.GetValue("LASTEXITCODE");
            return value == null ? (int?)null : Convert.ToInt32(value is PSObject wrapped ? wrapped.BaseObject : value);
        }
    }
}
