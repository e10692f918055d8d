// Programs of System32. Each takes its arguments as texts, writes lines and returns its exit code.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Management.Automation;
using System.Text.Json.Nodes;

namespace FleetPatch.StandIns
{
    public sealed class Printed
    {
        public List<object> Lines { get; } = new List<object>();
        public void Line(string text) => Lines.Add(text);
        public void Error(string text) => Lines.Add(new ErrorRecord(new RemoteException(text), "NativeCommandError",
            ErrorCategory.NotSpecified, null));
    }

    public static partial class Programs
    {
        public static object[] Run(string method, object[] arguments, SessionState session)
        {
            var printed = new Printed();
            var texts = arguments.Select(a => Convert.ToString(a is PSObject wrapped ? wrapped.BaseObject
                : a, CultureInfo.InvariantCulture)).ToList();
            var code = (int)typeof(Programs).GetMethod(method).Invoke(null, new object[] { texts, printed });
            session.PSVariable.Set("global:LASTEXITCODE", code);
            // What a program writes to stderr becomes an error record only where a script merges the streams; here
            // both streams are output then, and stderr is the request's own otherwise.
            return printed.Lines.Select(l => l is ErrorRecord error ? error.Exception.Message : l).ToArray();
        }

        static StandInException Unknown(string program, string argument) =>
            new StandInException(program + ": unknown argument '" + argument + "'");

        static string Next(string program, List<string> arguments, ref int index)
        {
            if (++index >= arguments.Count)
                throw new StandInException(program + ": '" + arguments[index - 1] + "' needs a value");
            return arguments[index];
        }

        [Program("shutdown.exe")]
        public static int Shutdown(List<string> arguments, Printed printed)
        {
            bool restart = false, off = false, abort = false;
            var seconds = 30;
            string reason = "", comment = "";
            for (var i = 0; i < arguments.Count; i++)
            {
                switch (arguments[i].ToLowerInvariant())
                {
                    case "/r": restart = true; break;
                    case "/s": off = true; break;
                    case "/a": abort = true; break;
                    case "/f": break;
                    case "/t": seconds = int.Parse(Next("shutdown.exe", arguments, ref i),
                        CultureInfo.InvariantCulture); break;
                    case "/d": reason = Next("shutdown.exe", arguments, ref i); break;
                    case "/c": comment = Next("shutdown.exe", arguments, ref i); break;
                    default: throw Unknown("shutdown.exe", arguments[i]);
                }
            }
            if (new[] { restart, off, abort }.Count(each => each) != 1)
                throw new StandInException("shutdown.exe: either /r, /s or /a");
            if (comment.Length > 512) { printed.Error("The comment is too long."); return 87; }
            if (reason != "" && !System.Text.RegularExpressions.Regex.IsMatch(reason,
                "^([pu]:)?[0-9]{1,3}:[0-9]{1,5}$", System.Text.RegularExpressions.RegexOptions.IgnoreCase))
                throw Unknown("shutdown.exe", "/d " + reason);
            return abort ? PowerSwitch.Abort(printed) : PowerSwitch.Schedule(seconds, restart, reason, comment, printed);
        }

        [Program("WindowsPowerShell/v1.0/powershell.exe")]
        public static int Powershell(List<string> arguments, Printed printed) =>
            throw new StandInException("powershell.exe inside powershell.exe: only scheduled tasks start it");

        [Program("w32tm.exe")]
        public static int W32tm(List<string> arguments, Printed printed)
        {
            var told = string.Join(" ", arguments).ToLowerInvariant();
            if (told != "/query /status" && told != "/query /source") throw Unknown("w32tm.exe", told);
            var source = Json.Text(Machine.Current.Scenario, "time_source");
            if (told == "/query /source") printed.Line(source);
            else
            {
                printed.Line("Leap Indicator: 0(no warning)");
                printed.Line("Stratum: 3 (secondary reference - syncd by (S)NTP)");
                printed.Line("Source: " + source);
            }
            return 0;
        }
    }

    static class Later
    {
        // Not in the context of the request that asks for it, which may have ended then.
        public static System.Threading.Timer Run(Action action, double milliseconds)
        {
            using (System.Threading.ExecutionContext.SuppressFlow())
                return new System.Threading.Timer(_ => Host.Work(action)(), null,
                    (long)Math.Min(int.MaxValue, milliseconds) + 1, System.Threading.Timeout.Infinite);
        }
    }

    public static class PowerSwitch
    {
        static System.Threading.Timer timer;

        static JsonNode Pending(JsonObject state) => state["shutdown"];

        public static void Forget() => timer?.Dispose();

        static bool InProgress => Machine.Current.Read(s => Pending(s) != null && (bool)Pending(s)["in_progress"]);

        public static void ThrowIfShuttingDown()
        {
            if (InProgress)
                throw ComError.Of(0x8007045B, "A system shutdown is in progress. (Exception from HRESULT: 0x8007045B)");
        }

        public static int Schedule(int seconds, bool restart, string reason, string comment, Printed printed)
        {
            var broken = (int)Json.Number(Machine.Current.Scenario, "shutdown_exit_code");
            if (broken != 0) { printed.Error("The system could not be shut down.(" + broken + ")"); return broken; }
            var code = Machine.Current.Change(state =>
            {
                if (Pending(state) != null) return (bool)Pending(state)["in_progress"] ? 1115 : 1190;
                state["shutdown"] = new JsonObject
                {
                    ["at"] = Machine.Now + seconds, ["restart"] = restart, ["reason"] = reason, ["comment"] = comment,
                        ["in_progress"] = false,
                };
                Events.Add(state, "System", "User32", 1074,
                    "The process shutdown.exe has initiated the " + (restart ? "restart" : "power off")
                        + " of computer: " + comment, new JsonObject
                        {
                            ["param1"] = @"C:\Windows\system32\shutdown.exe (WINHOST)", ["param2"] = "WINHOST",
                            ["param3"] = "No title for this reason could be found", ["param4"] = "0x80020011",
                            ["param5"] = restart ? "restart" : "power off", ["param6"] = comment,
                            ["param7"] = @"WINHOST\anne",
                        });
                return 0;
            });
            if (code == 1115) printed.Error("A system shutdown is in progress.(1115)");
            if (code == 1190) printed.Error("A system shutdown has already been scheduled.(1190)");
            if (code == 0) Resume();
            return code;
        }

        public static int Abort(Printed printed)
        {
            var code = Machine.Current.Change(state =>
            {
                if (Pending(state) == null) return 1116;
                if ((bool)Pending(state)["in_progress"]) return 1115;
                state["shutdown"] = null;
                Events.Add(state, "System", "User32", 1075,
                    "The last restart/shutdown request of computer WINHOST was aborted by user WINHOST\\anne",
                    new JsonObject { ["param1"] = "WINHOST", ["param2"] = @"WINHOST\anne" });
                return 0;
            });
            if (code == 1116)
                printed.Error("Unable to abort the system shutdown because no shutdown was in progress.(1116)");
            if (code == 1115) printed.Error("A system shutdown is in progress.(1115)");
            return code;
        }

        // Sets the timer for the shutdown that is due, if any.
        public static void Resume()
        {
            var at = Machine.Current.Read(s => Pending(s) == null ? 0 : (double)Pending(s)["at"]);
            if (at == 0) return;
            var wait = Math.Max(0, (at - Machine.Now) * 1000);
            timer = Later.Run(Fire, wait);
        }

        static void Fire()
        {
            var due = Machine.Current.Change(state =>
            {
                var pending = Pending(state);
                if (pending == null || (double)pending["at"] > Machine.Now) return false;
                pending["in_progress"] = true;
                var seconds = Json.Real(Machine.Current.Scenario, "shutdown_seconds");
                if (seconds > 0) state["servicing_until"] = Machine.Now + seconds;
                return true;
            });
            if (!due) { Resume(); return; } // aborted; or the timer's clock is ahead of the machine's
            // Windows prepares updates before the network goes down: requests are still answered meanwhile.
            Machine.Wait(Json.Real(Machine.Current.Scenario, "shutdown_seconds"), "");
            var power = Machine.Current.Read(s => (bool)Pending(s)["restart"]) ? "restarting" : "off";
            Machine.Current.Change(state => { state["power"] = power; });
            Host.Leave(power);
        }
    }
}
