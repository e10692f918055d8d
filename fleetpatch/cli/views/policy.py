"""Prints the policy that holds for machines, and builds the JSON."""

from collections.abc import Sequence

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from inventory.machine import Machine
from inventory.name_lists import join_first_names
from tasks.reports.formatting import format_count
from tasks.rules.policy.decision import describe_refusal
from tasks.rules.policy.model import Policy, PolicyDecision, describe_limits


def build_policy_json(policy: Policy, machines: Sequence[Machine], decision: PolicyDecision) -> dict[str, object]:
    """Return the rules that hold for machines, and the decision on a request, as JSON data."""
    return {
        "files": [file.path for file in policy.files],
        "machines": [machine.name for machine in machines],
        "rules": [
            {
                "name": rule.name,
                "place": rule.place,
                "scope": str(rule.scope),
                "ask": rule.ask,
                "machines": list(names),
                "limits": dict(describe_limits(rule)),
            }
            for rule, names in decision.rules
        ],
        "refusals": [
            {
                "rule": refusal.place or None,
                "key": refusal.key,
                "reason": refusal.reason,
                "machines": list(refusal.machines),
                "ask": refusal.ask or None,
            }
            for refusal in decision.refusals
        ],
        "approvers": [sorted(names) for names in decision.approvers],
        "machinesAtOnce": decision.at_once,
    }


def print_policy(policy: Policy, machines: Sequence[Machine], decision: PolicyDecision, subject: str) -> None:
    """Print the rules that hold for machines, and the decision on a request.

    Args:
        policy: all rules.
        machines: those of the request.
        decision: what the rules say to it.
        subject: what the request is, as the beginning of a sentence.
    """
    if not policy.files:
        print_to_stdout("There is no policy file here: no rule holds.")
        return
    for file in policy.files:
        print_to_stdout(Text.assemble("policy: ", to_safe_text(file.path)))
    for rule, names in decision.rules:
        which = "all of them" if len(names) == len(machines) else join_first_names(names)
        print_to_stdout(
            "",
            Text.assemble(
                to_safe_text(rule.name, "bold"),
                " ",
                to_safe_text(f"({rule.place}), {rule.scope}: {which}. Ask {rule.ask}"),
            ),
        )
        for key, limit_text in describe_limits(rule):
            print_to_stdout(Text.assemble("  ", to_safe_text(key, "bold"), ": ", to_safe_text(limit_text)))
    if not decision.rules:
        print_to_stdout(f"No rule is about {format_count(len(machines), 'machine')} of this scope.")
    print_to_stdout("")
    if decision.refusals:
        print_to_stdout(f"{subject} would be refused:")
    for refusal in decision.refusals:
        print_to_stdout(Text.assemble(("refused: ", "red"), to_safe_text(describe_refusal(refusal))))
    if not decision.refusals:
        more = [f"after an approval by {' and by '.join(', '.join(sorted(names)) for names in decision.approvers)}"]
        more = more if decision.approvers else []
        if decision.at_once is not None:
            more.append(f"with {format_count(decision.at_once, 'machine')} at once")
        print_to_stdout(to_safe_text(f"{subject} may begin{' ' if more else ''}{', '.join(more)}."))
