"""Which machine may begin, so that never too many that share something are worked on at once. Pure.

A machine takes a place at each resource that it shares (its site, jump hosts, mirror, hypervisor), all at once or none.
It waits for nothing while it holds places, so machines can't wait for each other. The first one in order that finds all
its places free begins. So machines with equal resources keep their order, and each has its turn when those before it
have ended.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from inventory.machine import Inventory
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from inventory.resources import find_resources

T = TypeVar("T")

ASSESSMENT_KINDS: Collection[ResourceKind] = frozenset({ResourceKind.SITE, ResourceKind.JUMP_HOST})
"""What an assessment uses. It downloads little, and installs and reboots nothing."""


def find_limited_resources(
    inventory: Inventory, names: Iterable[str], kinds: Collection[ResourceKind]
) -> Mapping[str, tuple[Resource, ...]]:
    """Return for each machine what it shares with others and what has a limit; without those that share nothing."""
    if not (inventory.limits.named or inventory.limits.others):
        return {}
    by_name = {machine.name: machine for machine in inventory.machines}
    limited = {
        name: tuple(
            resource
            for resource in find_resources(by_name[name], by_name)
            if resource.kind in kinds and inventory.limits.find(resource) is not None
        )
        for name in names
    }
    return {name: resources for name, resources in limited.items() if resources}


def choose_next(
    waiting: Iterable[tuple[T, tuple[Resource, ...]]], in_use: Mapping[Resource, int], limits: ResourceLimits
) -> tuple[T | None, Mapping[tuple[Resource, ...], Resource]]:
    """Return the first of the waiting that finds all its places free; None if none does.

    Args:
        waiting: who waits, in order, and what each of them shares with others.
        in_use: how many use each resource now.
        limits: those of the resources.

    Returns:
        Also, for those before it that must wait: what they share, and the first resource of it that is full.
    """
    full: dict[tuple[Resource, ...], Resource] = {}
    for candidate, resources in waiting:
        if resources in full:
            continue
        for resource in resources:
            limit = limits.find(resource)
            if limit is not None and in_use.get(resource, 0) >= limit:
                full[resources] = resource
                break
        else:
            return candidate, full
    return None, full


def describe_full(resource: Resource, count: int) -> str:
    """Return why a machine waits for a place: "20 machines use jump host bastion-1"."""
    return f"{count} machine{' uses' if count == 1 else 's use'} {resource}"
