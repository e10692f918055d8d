"""The order of roles in machine sets decides about waves, where tags tell the roles."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Machine, MachineSet, RoleSource, TransportKind
from tasks.domain.errors import RequestError
from tasks.domain.model import Wave
from tasks.rules.runs.waves import WavePolicy, build_waves
from tests.unit.rules.test_waves import machine, policies

ROLES = ("", "replica", "primary", "witness 2")
ORDER = ("witness", "replica", "primary")


def with_role(name: str, role: str, **more: object) -> Machine:
    made: Machine = machine(name, **more)
    return replace(made, tags={"role": role})


def cluster(*members: str, name: str = "db", order: tuple[str, ...] = ("replica", "primary")) -> MachineSet:
    return MachineSet(name, "*", members, role=RoleSource(tag="role"), order=order)


def find_turns(waves: tuple[Wave, ...]) -> dict[str, int]:
    return {name: wave.number for wave in waves for name in wave.machines}


@st.composite
def fleets_with_sets(draw: st.DrawFn) -> tuple[list[Machine], list[MachineSet]]:
    """Make up machines with roles, and sets of any of them and of machines that are not in the run."""
    names = [f"m{number}" for number in range(draw(st.integers(1, 20)))]
    machines = [
        with_role(name, draw(st.sampled_from(ROLES)), location=draw(st.sampled_from(("", "oslo")))) for name in names
    ]
    members = st.lists(st.sampled_from([*names, "elsewhere"]), min_size=1, unique=True)
    orders = st.permutations(ORDER).flatmap(lambda order: st.integers(0, 3).map(lambda count: tuple(order[:count])))
    sets = [cluster(*draw(members), name=f"s{number}", order=draw(orders)) for number in range(draw(st.integers(0, 3)))]
    return draw(st.permutations(machines)), sets


def rank(role: str, order: tuple[str, ...]) -> int:
    word = role.partition(" ")[0]
    return order.index(word) if word in order else -1


@given(fleets_with_sets(), policies)
def test_everyone_is_patched_exactly_once(fleet: tuple[list[Machine], list[MachineSet]], policy: WavePolicy) -> None:
    machines, sets = fleet
    found = build_waves(machines, policy, sets)
    assert found == build_waves(list(machines), policy, list(sets))
    assert Counter(name for wave in found for name in wave.machines) == Counter(each.name for each in machines)
    assert [wave.number for wave in found] == list(range(1, len(found) + 1))
    assert all(wave.machines for wave in found)


@given(fleets_with_sets(), policies)
def test_earlier_roles_are_in_earlier_waves(fleet: tuple[list[Machine], list[MachineSet]], policy: WavePolicy) -> None:
    """A single set: several may contradict each other."""
    machines, sets = fleet
    for each in sets:
        turns = find_turns(build_waves(machines, policy, [each]))
        ranks = {one.name: rank(one.tags["role"], each.order) for one in machines if one.name in each.members}
        for (one, earlier), (other, later) in permutations(ranks.items(), 2):
            assert earlier >= later or turns[one] < turns[other]


@given(fleets_with_sets(), policies)
def test_a_canary_has_nobody_before_it(fleet: tuple[list[Machine], list[MachineSet]], policy: WavePolicy) -> None:
    machines, sets = fleet
    by_name = {each.name: each for each in machines}
    canaries = {name for wave in build_waves(machines, policy, sets) if wave.canary for name in wave.machines}
    for each in sets:
        ranks = {name: rank(by_name[name].tags["role"], each.order) for name in each.members if name in by_name}
        assert all(ranks[name] == min(ranks.values()) for name in canaries & ranks.keys())


@given(fleets_with_sets(), policies)
def test_machines_in_no_set_are_as_without_sets(
    fleet: tuple[list[Machine], list[MachineSet]], policy: WavePolicy
) -> None:
    machines, sets = fleet
    plain = [replace(each, order=()) for each in sets]
    by_command = [replace(each, role=RoleSource(command="role")) for each in sets]
    without = build_waves(machines, policy)
    assert build_waves(machines, policy, plain) == without
    assert build_waves(machines, policy, by_command) == without


def test_the_primary_is_in_a_wave_of_its_own_and_no_canary() -> None:
    machines = [with_role("p", "primary"), with_role("r1", "replica"), with_role("r2", "replica 1"), machine("x")]
    found = build_waves(machines, WavePolicy(canary_count=1, percent=100), [cluster("p", "r1", "r2")])
    assert [(wave.machines, wave.canary) for wave in found] == [
        (("r1",), True),
        (("r2", "x"), False),
        (("p",), False),
    ]


def test_a_primary_alone_in_a_run_may_be_a_canary() -> None:
    found = build_waves([with_role("p", "primary")], WavePolicy(canary_count=1), [cluster("p", "r1", "r2")])
    assert found == (Wave(1, ("p",), canary=True),)


def test_a_role_that_is_not_listed_comes_first() -> None:
    machines = [with_role("p", "primary"), with_role("r", "replica"), with_role("w", "witness"), machine("n")]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), [cluster("p", "r", "w", "n")]))
    assert turns == {"w": 1, "n": 1, "r": 2, "p": 3}


def test_jump_hosts_of_members_come_after_them() -> None:
    machines = [
        machine("bastion"),
        with_role("p", "primary", jump=("bastion",)),
        with_role("r", "replica", jump=("bastion",)),
    ]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100, canary_count=1), [cluster("p", "r")]))
    assert turns == {"r": 1, "p": 2, "bastion": 3}


def test_a_jump_host_wins_over_a_role() -> None:
    machines = [with_role("p", "primary", jump=("r",)), with_role("r", "replica"), with_role("r2", "replica")]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), [cluster("p", "r", "r2")]))
    assert turns["p"] < turns["r"]


def test_only_the_order_that_contradicts_is_left_out() -> None:
    machines = [
        with_role("p", "primary", jump=("r",)),
        with_role("r", "replica"),
        with_role("p2", "primary"),
        with_role("r2", "replica"),
    ]
    sets = [cluster("p2", "r2", name="good"), cluster("p", "r", name="bad")]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), sets))
    assert turns["p"] < turns["r"]
    assert turns["r2"] < turns["p2"]


def test_two_sets_that_contradict_each_other() -> None:
    machines = [with_role("a", "replica"), with_role("b", "primary")]
    sets = [cluster("a", "b", name="one"), cluster("a", "b", name="two", order=("primary", "replica"))]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), sets))
    assert sorted(turns.values()) == [1, 2]


def test_the_controller_stays_last() -> None:
    machines = [
        with_role("p", "primary"),
        with_role("here", "replica", transport=TransportKind.LOCAL),
        with_role("r", "replica"),
    ]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), [cluster("p", "here", "r")]))
    assert turns["r"] < turns["p"] < turns["here"]


def test_roles_do_not_hide_a_circle_of_jump_hosts() -> None:
    machines = [with_role("a", "primary", jump=("b",)), with_role("b", "replica", jump=("a",))]
    with pytest.raises(RequestError, match="circle: a, b"):
        build_waves(machines, WavePolicy(), [cluster("a", "b")])


def test_many_roles_in_turn() -> None:
    order = tuple(f"role{number}" for number in range(20))
    machines = [with_role(f"m{number}", role) for number, role in reversed(list(enumerate(order)))]
    members = [each.name for each in machines]
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), [cluster(*members, order=order)]))
    assert all(turns[f"m{one}"] < turns[f"m{two}"] for one, two in pairwise(range(20)))


def test_roles_that_members_say() -> None:
    machines = [machine("p", location="oslo"), machine("r1"), machine("r2"), machine("x")]
    members = MachineSet("db", "*", ("p", "r1", "r2"), role=RoleSource(command="role"), order=("replica", "primary"))
    roles = {"db": {"p": "primary", "r1": "replica", "r2": "replica", "elsewhere": "replica"}}
    found = build_waves(machines, WavePolicy(canary_count=2, percent=100), [members], roles)
    assert [(wave.machines, wave.canary) for wave in found] == [(("r1", "r2"), True), (("x",), False), (("p",), False)]


def test_what_a_member_says_wins_over_its_tag() -> None:
    machines = [with_role("a", "primary"), with_role("b", "replica")]
    roles = {"db": {"a": "replica", "b": "primary"}}
    turns = find_turns(build_waves(machines, WavePolicy(percent=100), [cluster("a", "b")], roles))
    assert turns == {"a": 1, "b": 2}
