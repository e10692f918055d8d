"""The pure rules: what they refuse, and that of several rules the strictest holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Machine, PatchOwner
from inventory.scope import Scope
from tasks.domain.model import Window
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.policy.decision import decide_run, describe_refusal, is_approver
from tasks.rules.policy.model import (
    InventoryLimit,
    Policy,
    PolicyDecision,
    PolicyFreeze,
    PolicyRule,
    RiskyOption,
    RunDemands,
    Starter,
)

NOW = datetime(2026, 12, 20, 12, tzinfo=UTC)
WINDOW = Window(NOW, NOW + timedelta(hours=2))
ANNA = Starter("anna")
FLEET = tuple(
    Machine(f"{env}-{number}", "192.0.2.1", environment=env, zone=zone)
    for env, zone in (("prod", "Europe/Berlin"), ("stage", "UTC"))
    for number in range(4)
)


def rule(name: str = "prod", scope: str = "env=prod", **limits: Any) -> PolicyRule:
    return PolicyRule(name, Scope.parse(scope), f"policy.yaml:{len(name)}", "the platform team", **limits)


def decide(
    *rules: PolicyRule, machines: tuple[Machine, ...] = FLEET, starter: Starter = ANNA, **demands: Any
) -> PolicyDecision:
    asked = RunDemands(**{"window": WINDOW, **demands})
    return decide_run(Policy(rules), asked, machines, FLEET, starter, NOW)


CASES: dict[str, tuple[PolicyRule, dict[str, Any], dict[str, Any]]] = {
    **{
        f"forbid {option}": (rule(forbidden=frozenset({option})), {"options": frozenset({option})}, {})
        for option in RiskyOption
    },
    "hooks": (
        rule(hooks=frozenset({"/opt/drain"})),
        {"hooks": frozenset({"/opt/drain", "rm -rf /"})},
        {"hooks": frozenset({"/opt/drain"})},
    ),
    "classifications": (
        rule(classifications=frozenset({Classification.SECURITY})),
        {"classifications": frozenset({Classification.SECURITY, Classification.OTHER})},
        {"classifications": frozenset({Classification.SECURITY, Classification.SECURITY_ESM})},
    ),
    "classifications by name": (
        rule(classifications=frozenset({Classification.SECURITY})),
        {"options": frozenset({RiskyOption.INCLUDE})},
        {},
    ),
    "classifications by the newest version": (
        rule(classifications=frozenset({Classification.SECURITY})),
        {"options": frozenset({RiskyOption.NEWEST})},
        {},
    ),
    "reboots": (
        rule(reboots=frozenset({RebootPolicy.NEVER})),
        {"reboot": RebootPolicy.IF_REQUIRED},
        {"reboot": RebootPolicy.NEVER},
    ),
    "reboots before the installation": (
        rule(reboots=frozenset({RebootPolicy.NEVER})),
        {"reboot": RebootPolicy.NEVER, "options": frozenset({RiskyOption.REBOOT_PENDING_FIRST})},
        {"reboot": RebootPolicy.NEVER},
    ),
    "longest window": (
        rule(longest_window_minutes=60.0),
        {},
        {"window": Window(NOW, NOW + timedelta(minutes=60))},
    ),
    "longest window, with the lead of its hooks": (
        rule(longest_window_minutes=180.0),
        {"lead_minutes": 61},
        {"lead_minutes": 60},
    ),
    "failure budget": (
        rule(failure_budget_percent=25.0),
        {"failure_budget_percent": 25.1},
        {"failure_budget_percent": 25.0},
    ),
    "failure budget as a number": (
        rule(failure_budget_percent=25.0),
        {"failure_budget_count": 3},
        {"failure_budget_count": 2},
    ),
    "unreachable": (rule(unreachable_percent=10.0), {"unreachable_percent": 50}, {"unreachable_percent": 10}),
    "freeze": (
        rule(freezes=(PolicyFreeze(datetime(2026, 12, 20), datetime(2026, 12, 21), "the sale"),)),  # noqa: DTZ001
        {},
        {"window": Window(NOW + timedelta(days=1), NOW + timedelta(days=1, hours=2))},
    ),
    "approval without a known starter": (
        rule(approvers=frozenset({"*"})),
        {"starter": Starter("?", is_known=False)},
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_refuses_what_it_forbids_and_nothing_else(name: str) -> None:
    limit, broken, kept = CASES[name]
    (refusal,) = decide(limit, **broken).refusals
    said = describe_refusal(refusal)
    assert "policy rule prod (policy.yaml:4)" in said
    assert said.endswith("Ask the platform team")
    assert not decide(limit, **kept).refusals
    assert not decide(limit, machines=FLEET[4:], **broken).refusals  # stage is none of its machines


def test_machines_that_the_run_leaves_out_make_no_share_smaller() -> None:
    """Attacker: who may start runs. Way: pad the scope with machines that are not fleetpatch's to patch."""
    padding = tuple(Machine(f"f-{number}", "192.0.2.2", owner=PatchOwner.OS) for number in range(90))
    limit = rule(failure_budget_percent=25.0)
    assert decide(limit, machines=FLEET + padding, failure_budget_count=8).refusals
    assert not decide(limit, machines=FLEET + padding, failure_budget_count=2).refusals


def test_a_freeze_is_read_by_the_clocks_of_each_machine() -> None:
    """The zone of a request's window is the starter's choice, and moves no freeze."""
    freeze = PolicyFreeze(datetime(2026, 12, 20, 15), datetime(2026, 12, 20, 16))  # noqa: DTZ001 - by each machine
    berlin = Window(datetime(2026, 12, 20, 14, 30, tzinfo=UTC), datetime(2026, 12, 20, 14, 45, tzinfo=UTC), "UTC")
    assert decide(rule(freezes=(freeze,)), window=berlin).refusals
    assert not decide(rule(freezes=(freeze,), scope="env=stage"), window=berlin).refusals


def test_a_download_waits_for_no_freeze_and_no_approval() -> None:
    frozen = rule(freezes=(PolicyFreeze(NOW, NOW + timedelta(days=1)),), approvers=frozenset({"ben"}))
    decision = decide(frozen, is_download=True, starter=Starter("?", is_known=False))
    assert (decision.refusals, decision.approvers, decision.freezes) == ((), (), ())


def test_the_smallest_share_of_any_rule_is_patched_at_once() -> None:
    assert decide(rule(at_once_percent=50.0), rule("all", "*", at_once_percent=12.5)).at_once == 1
    assert decide(rule(at_once_percent=50.0)).at_once == 2
    assert decide(rule(at_once_percent=1.0)).at_once == 1
    assert decide(rule()).at_once is None


def test_a_role_with_a_scope_needs_every_machine_in_it() -> None:
    bob = Starter("bob", scope=Scope.parse("env=stage"))
    (refusal,) = decide(starter=bob).refusals
    assert refusal.machines == tuple(machine.name for machine in FLEET[:4])
    assert describe_refusal(refusal).startswith("the role run of bob is limited to env=stage (prod-0")
    assert not decide(starter=bob, machines=FLEET[4:]).refusals


def test_an_inventory_that_the_policy_does_not_know_is_refused() -> None:
    policy = Policy(inventory_limits=(InventoryLimit("policy.yaml", frozenset({"/etc/fleet.yaml"})),))
    for inventory, count in (("/etc/fleet.yaml", 0), ("/tmp/mine.yaml", 1), ("", 1)):
        demands = RunDemands(WINDOW, inventory=inventory)
        assert len(decide_run(policy, demands, FLEET, FLEET, ANNA, NOW).refusals) == count


@pytest.mark.parametrize(
    ("allowed", "login", "roles", "is_one"),
    [
        ({"anna"}, "ANNA ", set(), True),
        ({"anna"}, "ben", {"approve"}, False),
        ({"JÜRGEN"}, "jÜrgen", set(), True),
        ({"hans"}, "han\u017f", set(), False),
        ({"strasse"}, "straße", set(), False),
        ({"fink"}, "\ufb01nk", set(), False),
        ({"kim"}, "\u212aim", set(), False),
        ({"role:approve"}, "ben", {"approve"}, True),
        ({"role:approve"}, "ben", {"run"}, False),
        ({"role:approve"}, "role:approve", set(), False),
        ({"*"}, "whoever", set(), True),
        ({"*"}, " ", {"approve"}, False),
    ],
)
def test_approvers_are_logins(allowed: set[str], login: str, roles: set[str], is_one: bool) -> None:
    assert is_approver(frozenset(allowed), login, frozenset(roles)) is is_one


SCOPES = st.sampled_from(["*", "env=prod", "env=stage", "name=prod-1|stage-2", "!env=prod", "zone=UTC"])
PERCENTS = st.one_of(st.none(), st.floats(1, 100))
TIMES = st.datetimes(datetime(2026, 12, 18), datetime(2026, 12, 22))  # noqa: DTZ001 - by each machine's clock


def option_sets() -> st.SearchStrategy[frozenset[RiskyOption]]:
    return st.frozensets(st.sampled_from(RiskyOption), max_size=4)


def optional_sets(values: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.frozensets(st.sampled_from(values), min_size=1, max_size=3))


RULES = st.builds(
    PolicyRule,
    name=st.uuids().map(str),
    scope=SCOPES.map(Scope.parse),
    approvers=optional_sets(["anna", "ben", "role:approve", "*"]),
    freezes=st.lists(
        st.builds(lambda start, hours: PolicyFreeze(start, start + timedelta(hours=hours)), TIMES, st.integers(0, 48)),
        max_size=2,
    ).map(tuple),
    forbidden=option_sets(),
    hooks=optional_sets(["/opt/a", "/opt/b"]),
    classifications=optional_sets(list(Classification)),
    reboots=optional_sets(list(RebootPolicy)),
    longest_window_minutes=st.one_of(st.none(), st.floats(10, 300)),
    failure_budget_percent=PERCENTS,
    unreachable_percent=PERCENTS,
    at_once_percent=PERCENTS,
)
DEMANDS = st.builds(
    RunDemands,
    window=st.integers(1, 300).map(lambda minutes: Window(NOW, NOW + timedelta(minutes=minutes))),
    is_download=st.booleans(),
    options=option_sets(),
    hooks=st.frozensets(st.sampled_from(["/opt/a", "/opt/b", "/opt/c"])),
    classifications=st.frozensets(st.sampled_from(Classification), max_size=3),
    reboot=st.sampled_from(RebootPolicy),
    failure_budget_count=st.one_of(st.none(), st.integers(0, 8)),
    failure_budget_percent=st.floats(0, 100),
    unreachable_percent=st.floats(0, 100),
)
MACHINES = st.lists(st.sampled_from(FLEET), min_size=1, unique_by=lambda machine: machine.name).map(tuple)
STARTERS = st.builds(
    Starter, name=st.just("anna"), is_known=st.booleans(), scope=st.one_of(st.none(), SCOPES.map(Scope.parse))
)


@given(st.lists(RULES, max_size=4), RULES, DEMANDS, MACHINES, STARTERS)
def test_a_further_rule_never_allows_anything(
    rules: list[PolicyRule], further: PolicyRule, demands: RunDemands, machines: tuple[Machine, ...], starter: Starter
) -> None:
    """The strictest rule holds: with one more rule there are at least the same refusals, freezes and approvers."""
    less = decide_run(Policy(tuple(rules)), demands, machines, FLEET, starter, NOW)
    more = decide_run(Policy((*rules, further)), demands, machines, FLEET, starter, NOW)
    assert set(less.refusals) <= set(more.refusals)
    assert set(less.freezes) <= set(more.freezes)
    assert set(less.approvers) <= set(more.approvers)
    assert less.at_once is None or (more.at_once is not None and more.at_once <= less.at_once)


@given(st.lists(RULES, max_size=4), DEMANDS, MACHINES, STARTERS, st.randoms())
def test_the_order_of_rules_and_machines_decides_nothing(
    rules: list[PolicyRule], demands: RunDemands, machines: tuple[Machine, ...], starter: Starter, chance: Any
) -> None:
    first = decide_run(Policy(tuple(rules)), demands, machines, FLEET, starter, NOW)
    chance.shuffle(rules)
    again = decide_run(Policy(tuple(rules)), demands, machines, FLEET, starter, NOW)
    assert set(first.refusals) == set(again.refusals)
    assert (set(first.freezes), set(first.approvers), first.at_once) == (
        set(again.freezes),
        set(again.approvers),
        again.at_once,
    )


@given(st.lists(RULES, max_size=4), DEMANDS, MACHINES, STARTERS)
def test_a_machine_is_refused_in_every_larger_run(
    rules: list[PolicyRule], demands: RunDemands, machines: tuple[Machine, ...], starter: Starter
) -> None:
    """Nobody gets a machine through by adding others. Only a number of failures is a smaller share of more machines."""
    policy = Policy(tuple(rules))
    keys = {
        (refusal.place, refusal.key)
        for machine in machines
        for refusal in decide_run(policy, demands, (machine,), FLEET, starter, NOW).refusals
        if demands.failure_budget_count is None or refusal.key != "failure_budget_percent"
    }
    whole = decide_run(policy, demands, machines, FLEET, starter, NOW)
    assert keys <= {(refusal.place, refusal.key) for refusal in whole.refusals}
