// The criteria of IUpdateSearcher.Search: really parsed. What the agent does not know is 0x80240032, as there.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.RegularExpressions;

namespace FleetPatch.StandIns
{
    // criteria := conjunction ("or" conjunction)*; a conjunction may have parentheses around it, nothing else may.
    public sealed class Criteria
    {
        static readonly Regex token = new Regex(@"\G\s*('[^']*'|\*|\(|\)|!=|=|\w+)", RegexOptions.IgnoreCase);
        static readonly Regex guid = new Regex(@"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", RegexOptions.IgnoreCase);

        static readonly string[] flags =
        {
            "IsInstalled", "IsHidden", "IsPresent", "IsAssigned", "BrowseOnly", "AutoSelectOnWebSites",
                "RebootRequired",
        };

        sealed class Term
        {
            public string Name;
            public bool Not;
            public string Value;
        }

        readonly List<string> tokens = new List<string>();
        readonly List<List<Term>> alternatives = new List<List<Term>>();
        int at;

        public Criteria(string text)
        {
            var end = 0;
            for (var found = token.Match(text ?? ""); found.Success; found = token.Match(text, end))
            {
                tokens.Add(found.Groups[1].Value);
                end = found.Index + found.Length;
            }
            if ((text ?? "").Substring(end).Trim() != "" || tokens.Count == 0) throw Invalid();
            do alternatives.Add(Conjunction()); while (Take("or"));
            if (at != tokens.Count) throw Invalid();
        }

        static Exception Invalid() => ComError.Of(0x80240032,
            "The search criteria string was invalid. (Exception from HRESULT: 0x80240032)");

        bool Take(string word)
        {
            if (at >= tokens.Count || !tokens[at].Equals(word, StringComparison.OrdinalIgnoreCase)) return false;
            at++;
            return true;
        }

        string Next() => at < tokens.Count ? tokens[at++] : throw Invalid();

        List<Term> Conjunction()
        {
            var inside = Take("(");
            var terms = new List<Term>();
            do terms.Add(NextTerm()); while (Take("and"));
            if (inside && !Take(")")) throw Invalid();
            if (terms.Any(t => t.Name == "RevisionNumber") && !terms.Any(t => t.Name == "UpdateID" && !t.Not))
                throw Invalid();
            return terms;
        }

        Term NextTerm()
        {
            var name = Next();
            var known = flags.FirstOrDefault(f => f.Equals(name, StringComparison.OrdinalIgnoreCase));
            if (known != null) return new Term { Name = known, Value = Equal(v => v == "0" || v == "1") };
            switch (name.ToLowerInvariant())
            {
                case "type": return new Term { Name = "Type",
                    Value = Equal(v => v == "'software'" || v == "'driver'") };
                case "deploymentaction":
                    return new Term { Name = "DeploymentAction",
                        Value = Equal(v => Regex.IsMatch(v,
                        @"^('(installation|uninstallation|detection|optionalinstallation|\*)'|\*)$")) };
                case "revisionnumber": return new Term { Name = "RevisionNumber",
                    Value = Equal(v => Regex.IsMatch(v, @"^\d+$")) };
                case "updateid":
                    var not = at < tokens.Count && tokens[at] == "!=";
                    return new Term { Name = "UpdateID", Not = not, Value = Value(not ? "!=" : "=", IsGuid) };
                case "categoryids": return new Term { Name = "CategoryIDs", Value = Value("contains", IsGuid) };
                default: throw Invalid();
            }
        }

        static bool IsGuid(string text) => guid.IsMatch(text.Trim('\''));

        string Equal(Func<string, bool> fits) => Value("=", fits);

        string Value(string sign, Func<string, bool> fits)
        {
            if (!Take(sign)) throw Invalid();
            var value = Next().ToLowerInvariant();
            return fits(value) ? value.Trim('\'') : throw Invalid();
        }

        public bool Fits(UpdateFacts update) => alternatives.Any(terms =>
            (terms.Any(t => t.Name == "DeploymentAction") || update.DeploymentAction == "Installation")
                && terms.All(t => Holds(t, update)));

        static bool Holds(Term term, UpdateFacts update)
        {
            switch (term.Name)
            {
                case "UpdateID": return update.Id.Equals(term.Value, StringComparison.OrdinalIgnoreCase) != term.Not;
                case "RevisionNumber": return update.Revision == int.Parse(term.Value);
                case "CategoryIDs": return update.Categories.Any(c =>
                    c.Id.Equals(term.Value, StringComparison.OrdinalIgnoreCase));
                case "Type": return update.Type.Equals(term.Value, StringComparison.OrdinalIgnoreCase);
                case "DeploymentAction": return term.Value == "*"
                    || update.DeploymentAction.Equals(term.Value, StringComparison.OrdinalIgnoreCase);
                default: return update.Flag(term.Name) == (term.Value == "1");
            }
        }
    }
}
