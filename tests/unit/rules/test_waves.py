from collections import Counter
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.guests import GuestSettings
from inventory.machine import Machine, TransportKind
from tasks.domain.errors import RequestError
from tasks.rules.runs.waves import WavePolicy, build_waves


def machine(name, location="", jump=(), transport=TransportKind.SSH):
    return Machine(name=name, address=name, location=location, jump=tuple(jump), transport=transport)


def fleet(count, locations=("",)):
    return [machine(f"m{number}", locations[number % len(locations)]) for number in range(count)]


@st.composite
def fleets(draw):
    """Make up a fleet in which any machine may be reached through earlier ones, so that there is no circle."""
    names = [f"m{number}" for number in range(draw(st.integers(0, 25)))]
    made = []
    for place, name in enumerate(names):
        earlier = st.sampled_from([*names[:place], "elsewhere"])
        jump = draw(st.lists(earlier, max_size=2, unique=True))
        kind = draw(st.sampled_from((TransportKind.SSH,) * 8 + (TransportKind.LOCAL,)))
        made.append(machine(name, draw(st.sampled_from(("", "berlin", "oslo"))), jump, kind))
    return draw(st.permutations(made))


policies = st.builds(
    WavePolicy,
    canary_count=st.integers(0, 5),
    canary_percent=st.sampled_from((0.0, 1.0, 20.0, 100.0)),
    size=st.one_of(st.none(), st.integers(1, 30)),
    percent=st.floats(0.1, 100),
    keep_locations_apart=st.booleans(),
)


@given(fleets(), policies)
def test_everyone_is_patched_exactly_once_in_order(machines, policy):
    found = build_waves(machines, policy)
    assert found == build_waves(list(machines), policy)
    assert Counter(name for wave in found for name in wave.machines) == Counter(each.name for each in machines)
    assert [wave.number for wave in found] == list(range(1, len(found) + 1))
    assert all(wave.machines for wave in found)
    size = policy.size or max(1, ceil(len(machines) * policy.percent / 100))
    assert all(len(wave.machines) <= size for wave in found if not wave.canary)


@given(fleets(), policies)
def test_jump_hosts_come_after_what_is_reached_through_them(machines, policy):
    turn = {name: wave.number for wave in build_waves(machines, policy) for name in wave.machines}
    for each in machines:
        for jump in each.jump:
            here = next((other for other in machines if other.name == jump), None)
            if here is not None and each.transport is not TransportKind.LOCAL:
                assert turn[each.name] < turn[jump]
    local = [turn[each.name] for each in machines if each.transport is TransportKind.LOCAL]
    others = [turn[each.name] for each in machines if each.transport is not TransportKind.LOCAL]
    assert not local or not others or min(local) > max(others)


@given(fleets(), policies)
def test_the_canaries_are_as_many_as_asked(machines, policy):
    canaries = sum(len(wave.machines) for wave in build_waves(machines, policy) if wave.canary)
    percent = ceil(len(machines) * policy.canary_percent / 100)
    assert canaries == min(len(machines), max(policy.canary_count, percent))


@given(fleets(), policies)
def test_locations_are_kept_apart_when_asked(machines, policy):
    place = {each.name: each.location for each in machines}
    for wave in build_waves(machines, policy):
        if policy.keep_locations_apart:
            assert len({place[name] for name in wave.machines}) == 1


def test_canaries_come_first_from_every_location():
    found = build_waves(fleet(9, ("berlin", "berlin", "oslo")), WavePolicy(canary_count=2, size=4))
    assert [(wave.machines, wave.canary) for wave in found] == [
        (("m0", "m2"), True),
        (("m1", "m3", "m4", "m5"), False),
        (("m6", "m7", "m8"), False),
    ]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (5, [1] * 5), (11, [3, 3, 3, 2]), (100, [20] * 5)])
def test_a_fifth_rounded_up_is_a_wave(count, sizes):
    assert [len(wave.machines) for wave in build_waves(fleet(count), WavePolicy())] == sizes


def test_no_machines_no_waves():
    assert build_waves([], WavePolicy(canary_count=3, canary_percent=50)) == ()


def test_a_bastion_waits_for_its_machines():
    machines = [machine("bastion"), machine("inner", jump=("bastion",)), machine("db", jump=("bastion", "inner"))]
    found = build_waves(machines, WavePolicy(percent=100, canary_count=1))
    assert [wave.machines for wave in found] == [("db",), ("inner",), ("bastion",)]


def test_circles_and_doubles_are_refused():
    with pytest.raises(RequestError, match="circle: a, b") as caught:
        build_waves([machine("a", jump=("b",)), machine("b", jump=("a",))], WavePolicy())
    assert caught.value.hint
    with pytest.raises(RequestError, match="same name"):
        build_waves([machine("a"), machine("a")], WavePolicy())


@pytest.mark.parametrize(
    "wrong",
    [
        {"canary_count": -1}, {"canary_percent": 101.0}, {"size": 0}, {"percent": 0.0}, {"percent": float("nan")},
        {"at_once": 0}, {"pause_seconds": -1.0}, {"failure_budget_count": -1}, {"failure_budget_percent": 100.5},
        {"unreachable_percent": -1.0}, {"unreachable_percent": float("nan")},
    ],
)  # fmt: skip
def test_figures_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        WavePolicy(**wrong)


def test_a_host_that_puts_guests_away_comes_after_its_guests():
    host = replace(machine("kvm-1"), guests=GuestSettings(), hypervisor="kvm-1")
    plain, guest = machine("kvm-2"), replace(machine("vm-1"), hypervisor="kvm-1")
    other = replace(machine("vm-2"), hypervisor="kvm-2")
    waves = build_waves([host, plain, guest, other], WavePolicy(percent=100))
    assert [wave.machines for wave in waves] == [("kvm-2", "vm-1", "vm-2"), ("kvm-1",)]


def test_a_host_that_is_reached_through_its_own_guest_is_refused():
    host = replace(machine("kvm-1", jump=("vm-1",)), guests=GuestSettings())
    with pytest.raises(RequestError, match="in a circle: kvm-1, vm-1"):
        build_waves([host, replace(machine("vm-1"), hypervisor="kvm-1")], WavePolicy())
