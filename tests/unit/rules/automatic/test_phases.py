from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.automatic.model import AutomaticPolicy
from tasks.rules.automatic.rollout import build_phases


def places(policy, locations, locations_with_updates=None):
    return [phase.locations for phase in build_phases(policy, locations, locations_with_updates)]


def test_the_canary_location_is_alone_in_the_first_phase():
    assert places(AutomaticPolicy(canary_locations=("b",)), "abc") == [("b",), ("a", "c")]
    assert places(AutomaticPolicy(), "cba") == [("a",), ("b", "c")]
    assert places(AutomaticPolicy(canary_locations=("x",)), "ab") == [("a",), ("b",)]


def test_paired_locations_are_in_different_phases():
    policy = AutomaticPolicy(canary_locations=("a",), paired_locations=(("b", "c"), ("d", "e"), ("a", "f")))
    assert places(policy, "abcdef") == [("a",), ("b", "d", "f"), ("c", "e")]


def test_paired_canary_locations_are_one_after_the_other():
    policy = AutomaticPolicy(canary_locations=("a", "b"), paired_locations=(("a", "b"),))
    assert places(policy, "abc") == [("a",), ("b",), ("c",)]


def test_a_canary_location_without_machines_for_the_updates_is_none():
    policy = AutomaticPolicy(canary_locations=("a",))
    assert places(policy, "abc", {"b", "c"}) == [("b",), ("a", "c")]
    assert places(policy, "abc", {"a"}) == [("a",), ("b", "c")]


def test_machines_without_a_location_are_not_the_canaries_by_chance():
    assert places(AutomaticPolicy(), ("", "b", "a")) == [("a",), ("b", "")]
    assert places(AutomaticPolicy(), ("",)) == [("",)]
    assert places(AutomaticPolicy(), ()) == []


names = st.sampled_from("abcdefghij")
groups = st.lists(st.lists(names, min_size=2, max_size=3, unique=True).map(tuple), max_size=6).map(tuple)


@given(st.lists(names, max_size=10), st.lists(names, max_size=3, unique=True).map(tuple), groups)
def test_every_location_is_in_one_phase_and_no_pair_in_the_same(locations, canaries, pairs):
    policy = AutomaticPolicy(canary_locations=canaries, paired_locations=pairs)
    found = build_phases(policy, locations)
    assert found == build_phases(policy, reversed(locations))
    assert sorted(place for phase in found for place in phase.locations) == sorted(set(locations))
    assert [phase.number for phase in found] == list(range(1, len(found) + 1))
    for phase in found:
        for pair in combinations(phase.locations, 2):
            assert not any(set(pair) <= set(group) for group in pairs)
    there = set(canaries) & set(locations)
    numbers = [phase.number for phase in found if there.intersection(phase.locations)]
    assert numbers == list(range(1, len(numbers) + 1))


@given(st.lists(names, min_size=2, max_size=10, unique=True))
def test_separate_pairs_need_two_phases(locations):
    pairs = tuple(zip(locations[::2], locations[1::2], strict=False))
    policy = AutomaticPolicy(canary_locations=("canary",), paired_locations=pairs)
    assert len(build_phases(policy, [*locations, "canary"])) == 3
