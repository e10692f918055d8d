"""What a machine shares with others."""

from collections.abc import Mapping

from inventory.machine import Machine
from inventory.resource_limits import Resource, ResourceKind


def find_resources(machine: Machine, by_name: Mapping[str, Machine]) -> tuple[Resource, ...]:
    """Return what a machine shares with others: its site, each jump host on the way, its mirror and hypervisor.

    ``by_name``: all machines of its inventory. The first jump host of a machine may have jump hosts itself.
    """
    hops: list[str] = []
    jump = machine.jump
    while jump:
        hops = [*jump, *hops]
        first = by_name.get(jump[0])
        jump = () if first is None else tuple(name for name in first.jump if name not in hops)
    return (
        Resource(ResourceKind.SITE, machine.site),
        *(Resource(ResourceKind.JUMP_HOST, name) for name in dict.fromkeys(hops)),
        *([Resource(ResourceKind.MIRROR, machine.mirror)] if machine.mirror else []),
        *([Resource(ResourceKind.HYPERVISOR, machine.hypervisor)] if machine.hypervisor else []),
    )
