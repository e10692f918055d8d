"""Machines that share something: never too many at once, no deadlock, everyone's turn, and the order."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Inventory, Machine
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.rules.runs.resource_turns import ASSESSMENT_KINDS, choose_next, describe_full, find_limited_resources

NAMES = st.sampled_from(["a", "b"])
LIMITS = st.builds(
    ResourceLimits,
    st.dictionaries(st.builds(Resource, st.sampled_from(list(ResourceKind)), NAMES), st.integers(1, 3), max_size=4),
    st.dictionaries(st.sampled_from(list(ResourceKind)), st.integers(1, 3)),
)
SHARED = st.lists(st.builds(Resource, st.sampled_from(list(ResourceKind)), NAMES), unique=True, max_size=4).map(tuple)


@given(st.lists(SHARED, max_size=30), LIMITS, st.integers(1, 8), st.randoms(use_true_random=False))
def test_every_machine_has_its_turn_and_no_resource_ever_too_many(shared, limits, at_once, random) -> None:
    waiting = list(enumerate(shared))
    at_work: list[tuple[int, tuple[Resource, ...]]] = []
    begun: list[int] = []
    in_use: Counter[Resource] = Counter()
    while waiting or at_work:
        chosen, full = choose_next(waiting, in_use, limits) if len(at_work) < at_once else (None, {})
        chosen, full = (None, {}) if not waiting else (chosen, full)
        if chosen is not None:
            waiting.remove((chosen, shared[chosen]))
            at_work.append((chosen, shared[chosen]))
            in_use.update(shared[chosen])
            begun.append(chosen)
            assert all(
                limits.find(resource) is None or in_use[resource] <= limits.find(resource) for resource in in_use
            )
            continue
        assert at_work, "nobody works, and nobody may begin"
        if len(at_work) < at_once:  # every one that waits has a full resource, which is named
            assert all(full[resources] in resources for _, resources in waiting)
            assert all(in_use[resource] == limits.find(resource) for resource in full.values())
        ended = at_work.pop(random.randrange(len(at_work)))
        in_use.subtract(ended[1])
    assert sorted(begun) == list(range(len(shared)))
    for resources in set(shared):  # machines that share the same begin in their order
        alike = [number for number in begun if shared[number] == resources]
        assert alike == sorted(alike)


def test_what_a_machine_shares_and_what_of_it_has_a_limit() -> None:
    far = Machine("far", "192.0.2.1", jump=("gate",))
    gate, bastion = Machine("gate", "192.0.2.2"), Machine("bastion", "192.0.2.3", jump=("gate",))
    web = Machine("web", "192.0.2.4", jump=("bastion",), site="hh", mirror="m", hypervisor="esx-1")
    limits = ResourceLimits(
        {Resource(ResourceKind.JUMP_HOST, "gate"): 5}, {ResourceKind.SITE: 9, ResourceKind.HYPERVISOR: 2}
    )
    inventory = Inventory((far, gate, bastion, web), limits=limits)
    shared = find_limited_resources(inventory, ["web", "gate"], frozenset(ResourceKind))
    assert [str(resource) for resource in shared["web"]] == ["site hh", "jump host gate", "hypervisor esx-1"]
    assert [str(resource) for resource in shared["gate"]] == ["site default"]
    shared = find_limited_resources(inventory, ["web"], ASSESSMENT_KINDS)
    assert [str(resource) for resource in shared["web"]] == ["site hh", "jump host gate"]
    assert find_limited_resources(replace(inventory, limits=ResourceLimits()), ["web"], frozenset(ResourceKind)) == {}


def test_words_for_who_waits() -> None:
    bastion = Resource(ResourceKind.JUMP_HOST, "bastion-1")
    assert describe_full(bastion, 20) == "20 machines use jump host bastion-1"
    assert describe_full(bastion, 1) == "1 machine uses jump host bastion-1"
