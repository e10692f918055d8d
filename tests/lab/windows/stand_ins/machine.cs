// The machine that is stood in for: scenario.json says what it is like, state.json what became of it.
// Several requests, runspaces and the tests use state.json at once: whoever changes it holds state.lock (flock), and
// replaces the file in one step, so that whoever only reads needs no lock.
using System;
using System.IO;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading;

namespace FleetPatch.StandIns
{
    public class StandInException : InvalidOperationException
    {
        static readonly object writing = new object();

        // A script may catch it: the tests see it in this file all the same.
        public StandInException(string message) : base("stand-in: " + message)
        {
            lock (writing) File.AppendAllText(Path.Combine(Machine.Current.Folder, "stand_in_errors.log"), message
                + "\n");
        }
    }

    public sealed class Machine
    {
        static readonly JsonSerializerOptions Indented = new JsonSerializerOptions
        {
            WriteIndented = true,
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        };

        readonly object gate = new object();
        JsonObject state;
        DateTime stateTime;
        long stateLength;

        public static Machine Current { get; private set; }
        public string Folder { get; }
        public JsonObject Scenario { get; }
        public string SystemRoot => Path.Combine(Folder, "C", "Windows");

        Machine(string folder)
        {
            Folder = Path.GetFullPath(folder);
            Scenario = Parse(Path.Combine(Folder, "scenario.json"));
        }

        public static void Open(string folder) => Current = new Machine(folder);

        // Names of keys, values and updates mean the same in capitals and without.
        static JsonObject ParseText(string text) => JsonNode.Parse(text,
            new JsonNodeOptions { PropertyNameCaseInsensitive = true }).AsObject();

        static JsonObject Parse(string path) => ParseText(File.ReadAllText(path));

        string StateFile => Path.Combine(Folder, "state.json");

        void Refresh()
        {
            var file = new FileInfo(StateFile);
            if (state != null && file.LastWriteTimeUtc == stateTime && file.Length == stateLength) return;
            stateTime = file.LastWriteTimeUtc;
            stateLength = file.Length;
            state = Parse(StateFile);
        }

        public T Read<T>(Func<JsonObject, T> look)
        {
            lock (gate)
            {
                Refresh();
                return look(state);
            }
        }

        public void Change(Action<JsonObject> change)
        {
            lock (gate)
            {
                using (Locked())
                {
                    Refresh();
                    try { change(state); }
                    catch { state = null; throw; }  // half a change is none
                    var temporary = StateFile + ".new";
                    var text = state.ToJsonString(Indented);
                    File.WriteAllText(temporary, text);
                    state = ParseText(text);  // a number that was read converts to any type, one that was set does not
                    File.Move(temporary, StateFile, true);
                    var file = new FileInfo(StateFile);
                    stateTime = file.LastWriteTimeUtc;
                    stateLength = file.Length;
                }
            }
        }

        public T Change<T>(Func<JsonObject, T> change)
        {
            T result = default(T);
            Change(s => { result = change(s); });
            return result;
        }

        FileStream Locked()
        {
            for (; ; )
            {
                try
                {
                    return new FileStream(Path.Combine(Folder, "state.lock"), FileMode.OpenOrCreate,
                        FileAccess.ReadWrite, FileShare.None);
                }
                catch (IOException)  // somebody else holds it
                {
                    Thread.Sleep(5);
                }
            }
        }

        public static double Now => ToEpoch(DateTime.UtcNow);

        public static double ToEpoch(DateTime time) => (time.ToUniversalTime() - DateTime.UnixEpoch).TotalSeconds;

        public static DateTime FromEpoch(double seconds) => DateTime.UnixEpoch.AddSeconds(seconds);

        public double BootTime => Read(s => (double)s["boot"]["time"]);

        // Waits in small steps, so that a request that is stopped, or a test that opens a gate, is seen soon.
        public static void Wait(double seconds, string gate)
        {
            var end = DateTime.UtcNow.AddSeconds(seconds);
            var request = Request.Current;
            while (DateTime.UtcNow < end || Closed(gate))
            {
                var left = (end - DateTime.UtcNow).TotalMilliseconds;
                var step = (int)Math.Max(1, Math.Min(20, left > 0 ? left : 20));
                if (request != null) { request.Stopped.Token.WaitHandle.WaitOne(step); request.ThrowIfStopped(); }
                else Thread.Sleep(step);
            }
        }

        // A gate is a file that a test makes when what waits for it shall go on.
        static bool Closed(string gate) => !string.IsNullOrEmpty(gate)
            && !File.Exists(Path.Combine(Current.Folder, "gates", gate));
    }

    public static class Json
    {
        public static string Text(JsonNode node, string name) => (string)Field(node, name);
        public static bool Flag(JsonNode node, string name) => (bool)Field(node, name);
        public static long Number(JsonNode node, string name) => (long)Field(node, name).AsValue();
        public static double Real(JsonNode node, string name) => (double)Field(node, name).AsValue();
        public static JsonArray List(JsonNode node, string name) => Field(node, name).AsArray();

        // A field that the scenario forgot is an error of the test, never a null that some script takes for an answer.
        public static JsonNode Field(JsonNode node, string name)
        {
            if (!node.AsObject().TryGetPropertyValue(name, out var value))
                throw new StandInException("no field '" + name + "' in " + node.GetPath());
            return value;
        }

        public static object Plain(JsonNode node)
        {
            if (node == null) return null;
            switch (node.GetValueKind())
            {
                case JsonValueKind.String: return (string)node;
                case JsonValueKind.True: return true;
                case JsonValueKind.False: return false;
                case JsonValueKind.Number:
                    var value = node.AsValue();
                    if (value.TryGetValue<long>(out var whole))
                        return whole >= int.MinValue && whole <= int.MaxValue ? (object)(int)whole : whole;
                    return value.TryGetValue<ulong>(out var big) ? (object)big : (double)node;
                case JsonValueKind.Array:
                    var items = new object[node.AsArray().Count];
                    for (var i = 0; i < items.Length; i++) items[i] = Plain(node.AsArray()[i]);
                    return items;
                default: throw new StandInException("no plain value for " + node.GetPath());
            }
        }
    }
}
