// New-Object -ComObject, and what scripts make of .NET that Linux lacks or shares between all machines of a test.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading;

namespace FleetPatch.StandIns
{
    [Cmdlet(VerbsCommon.New, "FpObjectStandIn", DefaultParameterSetName = "Net")]
    [StandsInFor("New-Object")]
    public sealed class NewObjectCommand : PSCmdlet
    {
        static readonly Dictionary<string, Func<object>> known = new Dictionary<string, Func<object>>(
            StringComparer.OrdinalIgnoreCase)
        {
            ["Schedule.Service"] = () => new TaskService(),
            ["Microsoft.Update.Session"] = () => new UpdateSession(),
            ["Microsoft.Update.UpdateColl"] = () => new UpdateCollection(),
            ["Microsoft.Update.SystemInfo"] = () => new SystemInformation(),
            ["Microsoft.Update.AutoUpdate"] = () => new AutomaticUpdates(),
            ["Microsoft.Update.ServiceManager"] = () => new UpdateServiceManager(),
            ["Microsoft.Update.AgentInfo"] = () => new AgentInfo(),
        };

        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Net")]
        public string TypeName { get; set; }

        [Parameter(Position = 1, ParameterSetName = "Net")]
        [Alias("Args")]
        public object[] ArgumentList { get; set; }

        [Parameter(Mandatory = true, ParameterSetName = "Com")]
        public string ComObject { get; set; }

        [Parameter(ParameterSetName = "Com")]
        public SwitchParameter Strict { get; set; }

        [Parameter]
        public IDictionary Property { get; set; }

        protected override void ProcessRecord()
        {
            if (ParameterSetName == "Com") { WriteObject(Activate()); return; }
            if (TypeName.Equals("System.Threading.Mutex", StringComparison.OrdinalIgnoreCase) && ArgumentList != null
                && ArgumentList.Length > 1)
            {
                WriteObject(new MutexStandIn(Convert.ToBoolean(Plain(ArgumentList[0])),
                    Convert.ToString(ArgumentList[1])));
                return;
            }
            var script = ScriptBlock.Create("param($real, $given) & $real @given");
            var given = new Hashtable(MyInvocation.BoundParameters.ToDictionary(p => p.Key, p => p.Value));
            foreach (var made in InvokeCommand.InvokeScript(SessionState, script, real, given)) WriteObject(made);
        }

        static readonly CmdletInfo real = new CmdletInfo("New-Object", Type.GetType(
            "Microsoft.PowerShell.Commands.NewObjectCommand, Microsoft.PowerShell.Commands.Utility", true));

        static object Plain(object value) => value is PSObject wrapped ? wrapped.BaseObject : value;

        object Activate()
        {
            if (Property != null) throw new StandInException("New-Object -ComObject with -Property");
            if (!known.TryGetValue(ComObject, out var make)) throw new StandInException("no such ProgID: " + ComObject);
            try
            {
                if (Refusals.Refuses(ComObject))
                    throw new UnauthorizedAccessException("Retrieving the COM class factory for component with CLSID "
                        + "{00000000-0000-0000-0000-000000000000} failed due to the following error: 80070005 Access "
                        + "is denied. (Exception from HRESULT: 0x80070005 (E_ACCESSDENIED)).");
                return make();
            }
            catch (Exception error) when (error is System.Runtime.InteropServices.COMException
                || error is UnauthorizedAccessException)
            {
                var record = new ErrorRecord(error, "NoCOMClassIdentified", ErrorCategory.ResourceUnavailable,
                    ComObject);
                ThrowTerminatingError(record);
                return null;
            }
        }
    }

    // A named mutex is the same for all processes of a computer: here for all requests of one machine. Its owner is a
    // request (a process on Windows); if it ends without releasing, the next one learns that it was abandoned.
    public sealed class MutexStandIn : IDisposable
    {
        sealed class Shared
        {
            public Request Owner;
            public int Depth;
            public bool Abandoned;
        }

        static readonly Dictionary<string, Shared> all = new Dictionary<string, Shared>(
            StringComparer.OrdinalIgnoreCase);
        readonly Shared shared;

        public static void Forget() { lock (all) all.Clear(); }

        public MutexStandIn(bool owned, string name)
        {
            lock (all)
            {
                if (!all.TryGetValue(name, out shared)) all[name] = shared = new Shared();
            }
            if (owned) WaitOne(0);
        }

        public bool WaitOne() => WaitOne(Timeout.Infinite);

        public bool WaitOne(int milliseconds)
        {
            var end = milliseconds < 0 ? DateTime.MaxValue : DateTime.UtcNow.AddMilliseconds(milliseconds);
            for (; ; )
            {
                lock (all)
                {
                    if (shared.Owner == null || shared.Owner == Request.Current) return Take();
                }
                if (DateTime.UtcNow >= end) return false;
                Machine.Wait(0.01, "");
            }
        }

        bool Take()
        {
            var abandoned = shared.Abandoned;
            var mine = Request.Current;
            if (shared.Owner == null) mine.AtEnd(() => Abandon(mine));
            shared.Owner = mine;
            shared.Depth++;
            shared.Abandoned = false;
            if (abandoned) throw new AbandonedMutexException();
            return true;
        }

        void Abandon(Request owner)
        {
            lock (all)
            {
                if (shared.Owner != owner) return;
                shared.Owner = null;
                shared.Depth = 0;
                shared.Abandoned = true;
            }
        }

        public void ReleaseMutex()
        {
            lock (all)
            {
                if (shared.Owner != Request.Current)
                    throw new ApplicationException(
                        "Object synchronization method was called from an unsynchronized block of code.");
                if (--shared.Depth == 0) shared.Owner = null;
            }
        }

        public void Close() { }
        public void Dispose() { }
    }

    [Cmdlet(VerbsCommon.New, "FpMutexStandIn")]
    [StandsInFor("New-FpMutex")]
    public sealed class NewMutexCommand : PSCmdlet
    {
        [Parameter(Position = 0, Mandatory = true)]
        public string Name { get; set; }

        protected override void ProcessRecord() => WriteObject(new MutexStandIn(false, Name));
    }

    [Cmdlet(VerbsCommon.New, "FpVolatileKeyStandIn")]
    [StandsInFor("New-FpVolatileKey")]
    public sealed class NewVolatileKeyCommand : PSCmdlet
    {
        [Parameter(Position = 0, Mandatory = true)]
        [Alias("Path")]
        public string SubKey { get; set; }

        protected override void ProcessRecord()
        {
            if (SubKey.Contains(':') || SubKey.StartsWith("HK", StringComparison.OrdinalIgnoreCase))
                throw new StandInException("New-FpVolatileKey takes a path below the hive, not " + SubKey);
            RegistryStore.Create(SubKey.Replace('/', '\\').Trim('\\'), true);
        }
    }
}
