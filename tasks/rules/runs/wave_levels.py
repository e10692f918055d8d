"""Which machines must be in a later wave than which: jump hosts, the controller, and roles in machine sets."""

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from inventory.machine import Machine, TransportKind
from inventory.machine_sets import MachineSet
from tasks.domain.errors import RequestError

_Graph = dict[str, list[str]]  # no sets of names: their order changes from process to process
KnownRoles = Mapping[str, Mapping[str, str]]
"""Name of a set -> member -> its role, where members were asked. Of other members the tags count."""
_SET_MARK = "\x00"  # in no name of a machine


def compute_wave_levels(machines: Sequence[Machine], sets: Sequence[MachineSet], roles: KnownRoles) -> dict[str, int]:
    """Return the level of each machine. A machine's wave comes after the waves of all lower levels.

    A jump host has a higher level than the machines behind it, and a member of a set one than the members whose role
    has its turn before. Local machines get the highest level. Where an order of roles contradicts a jump host, or the
    order of another set, it is left out.

    Raises:
        RequestError: two machines have the same name, or the jump hosts form a circle.
    """
    before = _build_jump_graph(machines)
    levels = _compute_depths(_add_role_orders(before, machines, sets, roles))
    last = max(levels.values(), default=0) + 1
    return {
        machine.name: last if machine.transport is TransportKind.LOCAL else levels[machine.name] for machine in machines
    }


def find_members_of_later_roles(
    machines: Sequence[Machine], sets: Iterable[MachineSet], roles: KnownRoles
) -> frozenset[str]:
    """Return the machines in whose sets another of these machines has its turn before, because of its role."""
    by_name = {machine.name: machine for machine in machines}
    return frozenset(
        name for machine_set in sets for group in _group_by_role(machine_set, by_name, roles)[1:] for name in group
    )


def _build_jump_graph(machines: Sequence[Machine]) -> _Graph:
    behind: _Graph = {machine.name: [] for machine in machines}
    if len(behind) != len(machines):
        raise RequestError("two machines have the same name", hint="Give each machine a name of its own.")
    for machine in machines:
        for jump in machine.jump:
            if jump in behind:
                behind[jump].append(machine.name)
    if circle := _find_circle(behind):
        names = ", ".join(sorted(set(circle))[:10])
        raise RequestError(
            f"machines are reached through each other in a circle: {names}",
            hint="Correct their jump hosts in the inventory.",
        )
    return behind


def _add_role_orders(
    before: _Graph, machines: Sequence[Machine], sets: Sequence[MachineSet], roles: KnownRoles
) -> _Graph:
    """Return the graph with the orders of all sets, except those that would make a circle."""
    by_name = {machine.name: machine for machine in machines}
    orders = {
        machine_set.name: edges
        for machine_set in sets
        if (edges := dict(_iterate_role_edges(machine_set, by_name, roles)))
    }
    while True:
        graph = {name: list(others) for name, others in before.items()}
        for edges in orders.values():
            for name, others in edges.items():
                graph.setdefault(name, []).extend(others)
        circle = _find_circle(graph)
        if not circle:
            return graph
        del orders[next(name for node in circle if (name := _read_set_name(node)))]


def _iterate_role_edges(
    machine_set: MachineSet, by_name: Mapping[str, Machine], roles: KnownRoles
) -> Iterator[tuple[str, list[str]]]:
    """Yield nodes with the nodes before them. A node between two roles saves an edge for each pair of members."""
    groups = _group_by_role(machine_set, by_name, roles)
    for index, (earlier, later) in enumerate(pairwise(groups)):
        between = f"{_SET_MARK}{machine_set.name}{_SET_MARK}{index}"
        yield between, earlier
        for name in later:
            yield name, [between]


def _read_set_name(node: str) -> str:
    return node.split(_SET_MARK)[1] if node.startswith(_SET_MARK) else ""


def _group_by_role(machine_set: MachineSet, by_name: Mapping[str, Machine], roles: KnownRoles) -> list[list[str]]:
    """Return the members in this run in the order of their turns; one group if their roles are not known."""
    role, order, asked = machine_set.role, machine_set.order, roles.get(machine_set.name, {})
    names = [name for name in machine_set.members if name in by_name]
    if role is None or not order or not (role.tag or asked):
        return [names]
    turns = [asked[name] if name in asked else role.find_in_tags(by_name[name].tags) for name in names]
    ranked = [(order.index(found) if found in order else -1, name) for found, name in zip(turns, names, strict=True)]
    return [[name for rank, name in ranked if rank == turn] for turn in sorted({rank for rank, _ in ranked})]


def _find_circle(graph: _Graph) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _compute_depths(graph: _Graph) -> dict[str, int]:
    """Return the length of the longest chain of machines before each node."""
    depths: dict[str, int] = {}
    for node in graphlib.TopologicalSorter(graph).static_order():
        step = 0 if node.startswith(_SET_MARK) else 1
        depths[node] = step + max((depths[other] for other in graph.get(node, ())), default=-1)
    return depths
