// What COM objects have in common: only members that are there can be used (others are an error, StrictMode or not),
// arguments are checked, and a failure is a COMException: bare, or inside a MethodInvocationException, as PowerShell
// shows both. The scenario says which ("com_errors": bare, wrapped or both: by turns).
using System;
using System.Collections.Generic;
using System.Dynamic;
using System.Linq;
using System.Linq.Expressions;
using System.Management.Automation;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Threading;

namespace FleetPatch.StandIns
{
    // The documented interface whose members a class has; a test compares them.
    [AttributeUsage(AttributeTargets.Class)]
    public sealed class ComAttribute : Attribute
    {
        public string[] Interfaces { get; }
        public ComAttribute(params string[] interfaces) { Interfaces = interfaces; }
    }

    // Not for a network logon: E_ACCESSDENIED.
    [AttributeUsage(AttributeTargets.Property | AttributeTargets.Method | AttributeTargets.Class)]
    public sealed class LocalOnlyAttribute : Attribute { }

    public static class ComError
    {
        public const uint AccessDenied = 0x80070005;
        static int count;

        public static COMException Of(uint code, string text = null) =>
            new COMException(text ?? "Exception from HRESULT: 0x" + code.ToString("X8"), unchecked((int)code));

        public static COMException Denied() => Of(AccessDenied,
            "Access is denied. (Exception from HRESULT: 0x80070005 (E_ACCESSDENIED))");

        public static Exception Shaped(Exception error, string member)
        {
            if (!(error is COMException)) return error;
            var shape = Json.Text(Machine.Current.Scenario, "com_errors");
            var wrap = shape == "wrapped" || (shape == "both" && Interlocked.Increment(ref count) % 2 == 0);
            return wrap ? new MethodInvocationException("Exception calling \"" + member + "\": \"" + error.Message
                + "\"", error) : error;
        }
    }

    // What this machine refuses beside that: COM classes and members of interfaces, by the state's "refused".
    public static class Refusals
    {
        public static bool Refuses(string entry)
        {
            var whom = Machine.Current.Read(s => (string)s["refused"][entry]);
            return whom == "everyone" || (whom == "network" && Request.Current.IsNetworkLogon);
        }
    }

    public abstract class ComObject : IDynamicMetaObjectProvider
    {
        // A script may use an object in a thread of its own (a second PowerShell), which no request began.
        readonly Request owner = Request.Current;

        const BindingFlags Members = BindingFlags.Public | BindingFlags.Instance | BindingFlags.IgnoreCase;

        DynamicMetaObject IDynamicMetaObjectProvider.GetMetaObject(Expression parameter) => new Meta(parameter, this);

        StandInException Unknown(string name, string what) =>
            new StandInException(GetType().Name + " has no " + what + " '" + name + "'");

        static bool IsOwn(MemberInfo member) => typeof(ComObject).IsAssignableFrom(member.DeclaringType)
            && member.DeclaringType != typeof(ComObject);

        PropertyInfo Property(string name)
        {
            var found = GetType().GetProperty(name, Members);
            return found != null && IsOwn(found) ? found : null;
        }

        void Allow(MemberInfo member)
        {
            foreach (var entry in Interfaces(GetType()))
                if (Refusals.Refuses(entry + "." + member.Name)) throw ComError.Denied();
            var denied = member.IsDefined(typeof(LocalOnlyAttribute), true) || GetType()
                .IsDefined(typeof(LocalOnlyAttribute), true);
            if (denied && Request.Current.IsNetworkLogon) throw ComError.Denied();
        }

        static string[] Interfaces(Type type) => type.GetCustomAttribute<ComAttribute>()?.Interfaces ?? new string[0];

        object Guarded(string name, Func<object> action)
        {
            if (Request.Current == null) Request.Current = owner;
            try { return action(); }
            catch (TargetInvocationException error) { throw ComError.Shaped(error.InnerException, name); }
            catch (COMException error) { throw ComError.Shaped(error, name); }
        }

        public static object GetMember(ComObject self, string name)
        {
            var property = self.Property(name) ?? throw self.Unknown(name, "property");
            return self.Guarded(name, () => { self.Allow(property); return property.GetValue(self); });
        }

        public static object SetMember(ComObject self, string name, object value)
        {
            var property = self.Property(name);
            if (property == null || property.SetMethod == null || !property.SetMethod.IsPublic)
                throw self.Unknown(name, "property that can be set");
            self.Guarded(name, () =>
            {
                self.Allow(property.SetMethod);
                property.SetValue(self, Converted(value, property.PropertyType));
                return null;
            });
            return value;
        }

        public static object InvokeMember(ComObject self, string name, object[] arguments)
        {
            var method = self.GetType().GetMethods(Members).FirstOrDefault(m =>
                IsOwn(m) && !m.IsSpecialName && !m.IsStatic
                && m.Name.Equals(name, StringComparison.OrdinalIgnoreCase) && m.Name != "GetEnumerator");
            if (method == null) throw self.Unknown(name, "method");
            return self.Guarded(name, () =>
            {
                self.Allow(method);
                var parameters = method.GetParameters();
                if (arguments.Length > parameters.Length || arguments.Length < parameters.Count(p => !p.IsOptional))
                    throw new StandInException(self.GetType().Name + "." + name + " does not take " + arguments.Length
                        + " arguments");
                var values = parameters.Select((p, i) => i < arguments.Length
                    ? Converted(arguments[i], p.ParameterType) : p.DefaultValue).ToArray();
                // Of a method without a result, PowerShell may put null into the pipeline: a function that does not
                // drop it returns that, too.
                return method.Invoke(self, values);
            });
        }

        static object Converted(object value, Type type)
        {
            if (value is PSObject wrapped) value = wrapped.BaseObject;
            if (typeof(ComObject).IsAssignableFrom(type))
                return value == null || type.IsInstanceOfType(value) ? value
                    : throw ComError.Of(0x80020005,
                    "Type mismatch. (Exception from HRESULT: 0x80020005 (DISP_E_TYPEMISMATCH))");
            return type == typeof(object) ? value : LanguagePrimitives.ConvertTo(value, type);
        }

        sealed class Meta : DynamicMetaObject
        {
            public Meta(Expression parameter, ComObject value) : base(parameter, BindingRestrictions.Empty, value) { }

            DynamicMetaObject Call(string method, params Expression[] arguments)
            {
                var all = new[] { Expression.Convert(Expression, typeof(ComObject)) }.Concat(arguments).ToArray();
                var call = Expression.Call(typeof(ComObject).GetMethod(method), all);
                return new DynamicMetaObject(call, BindingRestrictions.GetTypeRestriction(Expression, LimitType));
            }

            public override DynamicMetaObject BindGetMember(GetMemberBinder binder) =>
                Call(nameof(GetMember), Expression.Constant(binder.Name));

            public override DynamicMetaObject BindSetMember(SetMemberBinder binder, DynamicMetaObject value) =>
                Call(nameof(SetMember), Expression.Constant(binder.Name),
                    Expression.Convert(value.Expression, typeof(object)));

            public override DynamicMetaObject BindInvokeMember(InvokeMemberBinder binder, DynamicMetaObject[] args) =>
                Call(nameof(InvokeMember), Expression.Constant(binder.Name),
                    Expression.NewArrayInit(typeof(object),
                        args.Select(a => Expression.Convert(a.Expression, typeof(object)))));

            public override IEnumerable<string> GetDynamicMemberNames() => Enumerable.Empty<string>();
        }
    }

    // A collection of COM: Count, Item(index) and foreach, but no $collection[0].
    public abstract class ComList<T> : ComObject, System.Collections.IEnumerable
    {
        protected readonly List<T> items;
        protected ComList(IEnumerable<T> items) { this.items = items.ToList(); }
        public int Count => items.Count;
        public T Item(int index) => items[Checked(index)];
        public System.Collections.IEnumerator GetEnumerator() => items.GetEnumerator();
        internal IReadOnlyList<T> All => items;

        protected int Checked(int index)
        {
            if (index < 0 || index >= items.Count)
                throw ComError.Of(0x80240007,
                    "The index to a collection was invalid. (Exception from HRESULT: 0x80240007)");
            return index;
        }
    }
}
