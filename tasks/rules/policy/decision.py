"""Decides what the rules of a policy allow a run, and what they impose on it. Pure.

All rules that are about any machine of a run hold for the whole run. So of several limits the strictest holds: each is
checked, freezes add up, and who approves must be allowed by each rule. No rule allows what another one refuses.

`fleetpatch deploy` records which policy holds. A process that finds no such policy was set up wrongly, or somebody has
edited the file: without a comparison it would begin runs that the pages and `config check` call forbidden.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.name_lists import join_first_names
from tasks.domain.model import Window
from tasks.domain.states import Classification, RebootPolicy, include_esm
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.policy.login_names import fold_ascii
from tasks.rules.policy.model import (
    ANY_LOGIN,
    ROLE_PREFIX,
    Policy,
    PolicyDecision,
    PolicyFile,
    PolicyRule,
    Refusal,
    RiskyOption,
    RunDemands,
    Starter,
)
from tasks.rules.runs.failure_budget import compute_share
from tasks.rules.timing.admission import describe_freeze


def decide_run(
    policy: Policy,
    demands: RunDemands,
    machines: Sequence[Machine],
    fleet: Sequence[Machine],
    starter: Starter,
    now: datetime,
) -> PolicyDecision:
    """Return what the rules say about a run that changes machines.

    Shares of a rule's machines are shares of the ``fleet``, all machines of the inventory. A freeze that is over holds
    no more.

    Raises:
        RequestError: a machine's zone is unknown, or a freeze is not valid.
    """
    rules = [(rule, rule_machines) for rule in policy.rules if (rule_machines := rule.select_machines(machines))]
    refusals = [*check_role_scope(starter, machines, "run"), *_check_inventory(policy, demands)]
    freezes: list[Freeze] = []
    patchable = sum(machine.owner.is_patchable for machine in machines)  # others are left out of the run
    for rule, rule_machines in rules:
        names = tuple(machine.name for machine in rule_machines)
        refusals += [
            Refusal(_describe_rule(rule), key, reason, names, rule.ask)
            for key, reason in _check_rule(rule, demands, patchable, starter)
        ]
        rule_freezes = [] if demands.is_download else rule.build_freezes({machine.zone for machine in rule_machines})
        rule_freezes = [freeze for freeze in rule_freezes if freeze.end > now]
        freezes += rule_freezes
        hit = find_freeze(demands.window, rule_freezes)
        if hit is not None:
            reason = describe_freeze(hit, demands.window)
            refusals.append(Refusal(_describe_rule(rule), "freezes", reason, names, rule.ask))
    return PolicyDecision(
        refusals=tuple(refusals),
        rules=tuple((rule, tuple(machine.name for machine in rule_machines)) for rule, rule_machines in rules),
        approvers=()
        if demands.is_download
        else tuple(dict.fromkeys(rule.approvers for rule, _ in rules if rule.approvers is not None)),
        freezes=tuple(dict.fromkeys(freezes)),
        at_once=_find_least_at_once([rule for rule, _ in rules], fleet),
    )


def check_act(
    policy: Policy, act: RiskyOption, inventory: str, machines: Sequence[Machine], starter: Starter, now: datetime
) -> tuple[Refusal, ...]:
    """Return why a change of machines outside of runs may not be made now.

    Nobody can approve such a change, so a rule that demands an approval refuses it. Freezes hold for each act but the
    change of the owner: that changes no machine. ``inventory`` is an absolute path; "" if it is not a file.

    Raises:
        RequestError: a machine's zone is unknown, or a freeze is not valid.
    """
    window = Window(now, now + timedelta(minutes=1))
    demands = RunDemands(window, options=frozenset({act}), inventory=inventory)
    decision = decide_run(policy, demands, machines, machines, starter, now)
    limits = {"inventories", "forbid", "run", *([] if act is RiskyOption.OWNER else ["freezes"])}
    reason = f"{act.meaning}: this can't be approved"
    approvals = (
        Refusal(_describe_rule(rule), "approval", reason, names, rule.ask)
        for rule, names in decision.rules
        if rule.approvers is not None
    )
    return (*(refusal for refusal in decision.refusals if refusal.key in limits), *approvals)


def check_role_scope(starter: Starter, machines: Sequence[Machine], role: str) -> list[Refusal]:
    """Return a refusal if machines are outside of the scope of a person's role."""
    if starter.scope is None:
        return []
    outside = tuple(machine.name for machine in machines if not starter.scope.matches(machine))
    if not outside:
        return []
    reason = f"the role {role} of {starter.name} is limited to {starter.scope}"
    return [Refusal("", role, reason, outside)]


def is_approver(allowed: frozenset[str], login: str, roles: frozenset[str]) -> bool:
    """Return whether a login is among the approvers of a rule. A name without a login never is.

    ``allowed`` has names, ``role:approve`` or ANY_LOGIN. ``login`` is "" if the name is only claimed.
    """
    if not login.strip():
        return False
    names = {fold_ascii(entry) for entry in allowed if not entry.startswith(ROLE_PREFIX)}
    return (
        ANY_LOGIN in allowed or fold_ascii(login) in names or any(f"{ROLE_PREFIX}{role}" in allowed for role in roles)
    )


def describe_refusal(refusal: Refusal) -> str:
    """Return a refusal in one sentence: the reason, the machines, the rule and whom to ask."""
    machines = f" ({join_first_names(refusal.machines)})" if refusal.machines else ""
    rule = f": {refusal.place}, `{refusal.key}`" if refusal.place else ""
    ask = f". Ask {refusal.ask}" if refusal.ask else ""
    return f"{refusal.reason}{machines}{rule}{ask}"


def _describe_rule(rule: PolicyRule) -> str:
    return f"policy rule {rule.name} ({rule.place})" if rule.place else f"policy rule {rule.name}"


def _check_inventory(policy: Policy, demands: RunDemands) -> Iterator[Refusal]:
    for limit in policy.inventory_limits:
        if demands.inventory not in limit.paths:
            paths_text = join_first_names(sorted(limit.paths)) or "none"
            reason = (
                f"the inventory {demands.inventory or 'of this run'} is not one that the policy knows ({paths_text})"
            )
            yield Refusal(limit.place, "inventories", reason)


def _check_rule(
    rule: PolicyRule, demands: RunDemands, machine_count: int, starter: Starter
) -> Iterator[tuple[str, str]]:
    """Yield the key and the reason of each limit of a rule that a run would break, except its freezes."""
    for option in sorted(rule.forbidden & demands.options):
        yield "forbid", f"{option}: {option.meaning}"
    if rule.hooks is not None and (foreign_hooks := sorted(demands.hooks - rule.hooks)):
        yield "hooks", f"the hook {foreign_hooks[0]!r} is not one that the rule allows"
    if rule.classifications is not None:
        yield from _check_classifications(rule.classifications, demands)
    if rule.reboots is not None:
        if demands.reboot not in rule.reboots:
            yield "reboots", f"the reboot policy {demands.reboot}, and allowed is {', '.join(sorted(rule.reboots))}"
        elif rule.reboots == {RebootPolicy.NEVER} and RiskyOption.REBOOT_PENDING_FIRST in demands.options:
            yield "reboots", "a reboot before the installation, and none is allowed"
    yield from _check_numbers(rule, demands, machine_count)
    if rule.approvers is not None and not demands.is_download and not starter.is_known:
        yield (
            "approval",
            "the starter may not approve the run, and it is not known who starts it: start it in the pages, through "
            "the API, with the command or by its schedule",
        )


def _check_numbers(rule: PolicyRule, demands: RunDemands, machine_count: int) -> Iterator[tuple[str, str]]:
    minutes = (demands.window.end - demands.window.start).total_seconds() / 60 + demands.lead_minutes
    window_subject = (
        "minutes of the window and of the lead for its hooks" if demands.lead_minutes else "minutes of the window"
    )
    budget = demands.failure_budget_percent
    if demands.failure_budget_count is not None:
        budget = 100.0 * demands.failure_budget_count / max(1, machine_count)
    for key, subject, value, limit in (
        ("longest_window", window_subject, minutes, rule.longest_window_minutes),
        ("failure_budget_percent", "percent of the machines that may fail", budget, rule.failure_budget_percent),
        (
            "unreachable_percent",
            "percent of the machines that may be unreachable",
            demands.unreachable_percent,
            rule.unreachable_percent,
        ),
    ):
        if limit is not None and value > limit:
            yield key, f"{value:g} {subject}, and {limit:g} are allowed"


def _check_classifications(allowed: frozenset[Classification], demands: RunDemands) -> Iterator[tuple[str, str]]:
    allowed = include_esm(allowed)
    allowed_text = ", ".join(sorted(allowed))
    if excess := sorted(demands.classifications - allowed):
        yield "classifications", f"updates of the kind {', '.join(excess)}, and allowed is {allowed_text}"
    if RiskyOption.INCLUDE in demands.options:
        yield "classifications", f"updates by name may be of any kind, and allowed is {allowed_text}"
    if RiskyOption.NEWEST in demands.options and Classification.OTHER not in allowed:
        yield "classifications", f"the newest version may be more than a security fix, and allowed is {allowed_text}"


def _find_least_at_once(rules: Sequence[PolicyRule], fleet: Sequence[Machine]) -> int | None:
    """Return how many machines may be patched at once: the smallest share of any rule's machines, at least one."""
    shares = [
        max(1, compute_share(len(rule.select_machines(fleet)), rule.at_once_percent))
        for rule in rules
        if rule.at_once_percent is not None
    ]
    return min(shares, default=None)


@dataclass(frozen=True, slots=True)
class DeployedPolicy:
    """The policy files that held where a fleet was deployed."""

    fleet: str  # the name of the set of configurations
    at: datetime
    files: tuple[PolicyFile, ...]  # at least one


def describe_difference(deployed: Sequence[DeployedPolicy], here: Sequence[PolicyFile]) -> str:
    """Return why a process may begin no run, with the remedy; "" if it has a policy that was deployed, or none was.

    More files are allowed: no rule allows what another one refuses. Of several fleets with the same records, the policy
    of one is enough. Of each fleet, the newest is first in ``deployed``.
    """
    digests = {file.digest for file in here}
    gaps = [
        (deployed_policy, [file for file in deployed_policy.files if file.digest not in digests])
        for deployed_policy in deployed
    ]
    if not gaps or any(not missing for _, missing in gaps):
        return ""
    paths = {file.path for file in here}
    policy, missing = min(gaps, key=lambda gap: not any(file.path in paths for file in gap[1]))
    edited = next((file.path for file in missing if file.path in paths), "")
    stamp = f"{policy.at:%Y-%m-%d %H:%M} UTC"
    if edited:
        return (
            f"the policy {edited} is not the one that `fleetpatch deploy` recorded on {stamp}: it was edited, or this "
            f"machine has another copy. Deploy again to let the edited one hold, or correct the copy"
        )
    files = f"it reads {', '.join(file.path for file in here)}" if here else "it reads none"
    return (
        f"the policy {missing[0].path}, which `fleetpatch deploy` recorded on {stamp}, is not read by this process: "
        f"{files}. Set FLEETPATCH_CONFIGURATIONS to the folder of that file (with units: in worker.env) and restart; "
        f"on another machine, copy the file there. If it is to hold no more, deploy again"
    )
