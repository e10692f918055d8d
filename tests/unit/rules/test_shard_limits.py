"""How shards that run at the same time share the limits of what their machines share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import Inventory
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.rules.runs.shard_limits import divide_into_turns, lower_limits, share_limits
from tasks.rules.runs.shards import Shard

MIRROR, BASTION, HOST = (
    Resource(ResourceKind.MIRROR, "eu"),
    Resource(ResourceKind.JUMP_HOST, "bastion"),
    Resource(ResourceKind.HYPERVISOR, "host-1"),
)
RESOURCES = (MIRROR, BASTION, HOST)

uses = st.lists(st.lists(st.lists(st.sampled_from(RESOURCES), unique=True), min_size=1, max_size=4), max_size=8)
"""By shard and machine, what the machine shares."""


@given(uses=uses, at_once=st.integers(1, 10), limits=st.tuples(*[st.integers(1, 9)] * len(RESOURCES)))
def test_shards_of_one_turn_never_use_more_of_a_resource_than_its_limit(
    uses: list[list[list[Resource]]], at_once: int, limits: tuple[int, ...]
) -> None:
    resources = {
        f"m{shard}-{machine}": tuple(used)
        for shard, machines in enumerate(uses)
        for machine, used in enumerate(machines)
    }
    shards = [
        Shard("hamburg", tuple(f"m{shard}-{machine}" for machine in range(len(machines))))
        for shard, machines in enumerate(uses)
    ]
    allowed = ResourceLimits(dict(zip(RESOURCES, limits, strict=True)))

    turns = divide_into_turns(shards, at_once, resources, allowed)

    assert Counter(shard for turn in turns for shard in turn) == Counter(shards)
    for turn in turns:
        assert 1 <= len(turn) <= at_once
        shares = share_limits(turn, resources, allowed)
        for resource in RESOURCES:
            users = [
                number
                for number, shard in enumerate(turn)
                if any(resource in resources[name] for name in shard.machines)
            ]
            parts = [shares[number].get(resource, allowed.named[resource]) for number in users]
            assert sum(parts) <= allowed.named[resource]
            assert not users or sum(parts) == allowed.named[resource]
            assert all(part >= 1 for part in parts)
            assert all(resource not in share for number, share in enumerate(shares) if number not in users)


def test_without_limits_all_shards_run_at_once() -> None:
    shards = [Shard("hamburg", (f"m{number}",)) for number in range(5)]

    assert divide_into_turns(shards, 50, {}, ResourceLimits()) == (tuple(shards),)
    assert share_limits(shards, {}, ResourceLimits()) == ({},) * 5


def test_a_shard_that_shares_nothing_does_not_wait_for_those_that_do() -> None:
    """Three shards use a host that bears two machines; the fourth one uses nothing, and is in the first turn."""
    resources = {"a": (HOST,), "b": (HOST,), "c": (HOST,)}
    one, two, three, free = (Shard("hamburg", (name,)) for name in ("a", "b", "c", "d"))
    limits = ResourceLimits(others={ResourceKind.HYPERVISOR: 2})

    assert divide_into_turns([one, two, three, free], 50, resources, limits) == ((one, two, free), (three,))
    assert share_limits((one, two, free), resources, limits) == ({HOST: 1}, {HOST: 1}, {})


def test_a_share_lowers_the_limits_of_an_inventory_and_raises_none() -> None:
    """The inventory at a site may say less than that of the whole run, or nothing of what it shares."""
    own = ResourceLimits({BASTION: 2, MIRROR: 9}, {ResourceKind.HYPERVISOR: 5})
    shares = {ResourceKind.JUMP_HOST: {"bastion": 3}, ResourceKind.MIRROR: {"eu": 4}, ResourceKind.SITE: {"rome": 1}}

    limits = lower_limits(Inventory((), limits=own), shares).limits

    assert [limits.find(resource) for resource in (BASTION, MIRROR, HOST)] == [2, 4, 5]
    assert limits.find(Resource(ResourceKind.SITE, "rome")) == 1
    assert lower_limits(Inventory((), limits=own), {}).limits == own
