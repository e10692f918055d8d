"""How shards that run at the same time keep the limits of what their machines share. Pure.

Each shard's process counts only its own machines. So each gets its part of a limit, and shards for which no part would
be left run later.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from inventory.data_class import dataclass
from inventory.machine import Inventory
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from tasks.rules.runs.shards import Shard, share_at_once

LimitedResources = Mapping[str, tuple[Resource, ...]]
"""By machine, what it shares with others and what has a limit."""


@dataclass(frozen=True, slots=True)
class ShardShare:
    """How many machines a shard may work on at once, so that it and the others of its turn keep what the run may."""

    at_once: int  # how many it patches
    assess_at_once: int  # how many it assesses
    limits: Mapping[Resource, int]  # how many use each resource that other shards of the turn use too


def divide_into_turns(
    shards: Sequence[Shard], at_once: int, resources: LimitedResources, limits: ResourceLimits
) -> tuple[tuple[Shard, ...], ...]:
    """Return the shards that run at the same time, turn by turn. Each is in the first turn that has room for it.

    A turn has room for ``at_once`` shards, and for as many that use a resource as its limit allows machines.
    """
    turns: list[list[Shard]] = []
    users: list[Counter[Resource]] = []
    for shard in shards:
        used = _find_used(shard, resources)
        for turn, in_use in zip(turns, users, strict=True):
            if len(turn) < at_once and all(in_use[resource] < _limit(limits, resource) for resource in used):
                break
        else:
            turn, in_use = [], Counter()
            turns.append(turn)
            users.append(in_use)
        turn.append(shard)
        in_use.update(used)
    return tuple(map(tuple, turns))


def build_shares(
    turn: Sequence[Shard], at_once: int, assess_at_once: int, resources: LimitedResources, limits: ResourceLimits
) -> tuple[ShardShare, ...]:
    """Return the share of each shard of a turn. Each may work on at least one machine."""
    parts = (share_at_once(turn, at_once), share_at_once(turn, assess_at_once), share_limits(turn, resources, limits))
    return tuple(map(ShardShare, *parts))


def share_limits(
    turn: Sequence[Shard], resources: LimitedResources, limits: ResourceLimits
) -> tuple[Mapping[Resource, int], ...]:
    """Return for each shard of a turn how many of its machines may use each resource that others of the turn use too.

    The parts of a limit are together not more than the limit, and none is 0. Where a limit can't be divided evenly, the
    first shards have one more.
    """
    used = [_find_used(shard, resources) for shard in turn]
    users = Counter(resource for resources_of_shard in used for resource in resources_of_shard)
    given: Counter[Resource] = Counter()
    shares: list[Mapping[Resource, int]] = []
    for resources_of_shard in used:
        share = {}
        for resource in resources_of_shard:
            if users[resource] > 1:
                whole, rest = divmod(_limit(limits, resource), users[resource])
                share[resource] = whole + (given[resource] < rest)
                given[resource] += 1
        shares.append(share)
    return tuple(shares)


def lower_limits(inventory: Inventory, shares: Mapping[ResourceKind, Mapping[str, int]]) -> Inventory:
    """Return an inventory whose limits are not higher than the shares of a shard. Other limits stay."""
    own = inventory.limits
    resources = {Resource(kind, name): share for kind, named in shares.items() for name, share in named.items()}
    lowered = {resource: min(share, own.find(resource) or share) for resource, share in resources.items()}
    return replace(inventory, limits=replace(own, named={**own.named, **lowered}))


def _find_used(shard: Shard, resources: LimitedResources) -> tuple[Resource, ...]:
    return tuple(dict.fromkeys(resource for name in shard.machines for resource in resources.get(name, ())))


def _limit(limits: ResourceLimits, resource: Resource) -> int:
    limit = limits.find(resource)
    if limit is None:
        raise ValueError(f"{resource} has no limit")
    return limit
