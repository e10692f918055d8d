"""Divides machines into waves: canary waves first, then the other waves.

Jump hosts, the controller, and roles in machine sets decide which machines must be in a later wave than others.
"""

import graphlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from math import ceil, floor
from types import MappingProxyType

from inventory.data_class import dataclass
from inventory.machine import Machine, MachineSet, TransportKind
from inventory.name_lists import join_first_names
from tasks.domain.errors import RequestError
from tasks.domain.model import Wave
from tasks.rules.runs.failure_budget import DEFAULT_FAILURE_PERCENT, DEFAULT_UNREACHABLE_PERCENT, FailureBudget

_Graph = dict[str, list[str]]  # no sets of names: their order changes from process to process
KnownRoles = Mapping[str, Mapping[str, str]]
"""Name of a set -> member -> its role, where members were asked. Of other members the tags count."""
_SET_MARK = "\x00"  # in no name of a machine


def compute_wave_levels(machines: Sequence[Machine], sets: Sequence[MachineSet], roles: KnownRoles) -> dict[str, int]:
    """Return the level of each machine. A machine's wave comes after the waves of all lower levels.

    A jump host has a higher level than the machines behind it, a host that puts its guests away a higher one than those
    guests (the key ``hypervisor`` of machines), and a member of a set one than the members whose role has its turn
    before. Local machines get the highest level. Where an order of roles contradicts a jump host, a hypervisor host, or
    the order of another set, it is left out.

    Raises:
        RequestError: two machines have the same name, or the jump hosts and hypervisor hosts form a circle.
    """
    before = _build_jump_graph(machines)
    graph = _add_role_orders(before, machines, sets, roles)
    levels: dict[str, int] = {}  # the length of the longest chain of machines before each node
    for node in graphlib.TopologicalSorter(graph).static_order():
        step = 0 if node.startswith(_SET_MARK) else 1
        levels[node] = step + max((levels[predecessor] for predecessor in graph.get(node, ())), default=-1)
    last = max(levels.values(), default=0) + 1
    return {
        machine.name: last if machine.transport is TransportKind.LOCAL else levels[machine.name] for machine in machines
    }


def _build_jump_graph(machines: Sequence[Machine]) -> _Graph:
    behind: _Graph = {machine.name: [] for machine in machines}
    if len(behind) != len(machines):
        raise RequestError("two machines have the same name", hint="Give each machine a name of its own.")
    guest_hosts = {machine.name for machine in machines if machine.guests is not None}
    for machine in machines:
        for jump in machine.jump:
            if jump in behind:
                behind[jump].append(machine.name)
        if machine.hypervisor in guest_hosts - {machine.name}:
            behind[machine.hypervisor].append(machine.name)
    if circle := _find_circle(behind):
        names = ", ".join(sorted(set(circle))[:10])
        raise RequestError(
            f"machines are reached through each other, or run on each other, in a circle: {names}",
            hint="Correct their keys jump and hypervisor in the inventory.",
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
        del orders[next(node.split(_SET_MARK)[1] for node in circle if node.startswith(_SET_MARK))]


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


def _group_by_role(machine_set: MachineSet, by_name: Mapping[str, Machine], roles: KnownRoles) -> list[list[str]]:
    """Return the members in this run in the order of their turns; one group if their roles are not known."""
    role, order, known_roles = machine_set.role, machine_set.order, roles.get(machine_set.name, {})
    names = [name for name in machine_set.members if name in by_name]
    if role is None or not order or not (role.tag or known_roles):
        return [names]
    turns = [known_roles[name] if name in known_roles else role.find_in_tags(by_name[name].tags) for name in names]
    ranks = (order.index(role_name) if role_name in order else -1 for role_name in turns)
    ranked = list(zip(ranks, names, strict=True))
    return [[name for rank, name in ranked if rank == turn] for turn in sorted({rank for rank, _ in ranked})]


def _find_circle(graph: _Graph) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


@dataclass(frozen=True, slots=True)
class WavePolicy:
    """How machines are divided into waves.

    Attributes:
        canary_count: number of canaries. The larger of this and ``canary_percent`` counts.
        canary_percent: share of all machines that are canaries, rounded up.
        size: machines in a wave; None: ``percent`` of all machines, rounded up, at least one (Azure: 20 %).
        failure_budget_count: see FailureBudget. If count and percent are both None, 20 % are allowed.
        failure_budget_percent: see FailureBudget.
        unreachable_percent: see FailureBudget.
        go_on_after_failed_canary: see FailureBudget.
        first_locations: locations whose machines come first, as canaries, in waves of the usual size.
        round_down: ``percent`` is rounded down, not up; a wave still has at least one machine.
    """

    canary_count: int = 0
    canary_percent: float = 0.0
    size: int | None = None
    percent: float = 20.0
    at_once: int = 50
    pause_seconds: float = 0.0
    failure_budget_count: int | None = None
    failure_budget_percent: float | None = None
    unreachable_percent: float = DEFAULT_UNREACHABLE_PERCENT
    go_on_after_failed_canary: bool = False
    keep_locations_apart: bool = False
    first_locations: tuple[str, ...] = ()
    round_down: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid figures.

        Raises:
            RequestError: a figure is invalid; the error names it.
        """
        budget_count, budget_percent = self.failure_budget_count or 0, self.failure_budget_percent or 0.0
        wrong = {
            "canary_count must be 0 or more": self.canary_count < 0,
            "canary_percent must be between 0 and 100": not 0 <= self.canary_percent <= 100,
            "size must be 1 or more": self.size is not None and self.size < 1,
            "percent must be more than 0 and at most 100": not 0 < self.percent <= 100,
            "at_once must be 1 or more": self.at_once < 1,
            "pause_seconds must be 0 or more": not self.pause_seconds >= 0,
            "failure_budget_count must be 0 or more": budget_count < 0,
            "failure_budget_percent must be between 0 and 100": not 0 <= budget_percent <= 100,
            "unreachable_percent must be between 0 and 100": not 0 <= self.unreachable_percent <= 100,
        }
        for rule, broken in wrong.items():
            if broken:
                raise RequestError(f"waves: {rule}", hint="Correct that figure in the request's waves.")

    @property
    def budget(self) -> FailureBudget:
        """Return the failure budget."""
        percent = self.failure_budget_percent
        if self.failure_budget_count is None and percent is None:
            percent = DEFAULT_FAILURE_PERCENT
        return FailureBudget(
            self.failure_budget_count, percent, self.unreachable_percent, self.go_on_after_failed_canary
        )


def build_waves(
    machines: Sequence[Machine],
    policy: WavePolicy,
    sets: Sequence[MachineSet] = (),
    roles: KnownRoles = MappingProxyType({}),
    no_canaries: Collection[str] = frozenset(),
    idle: Collection[str] = frozenset(),
) -> tuple[Wave, ...]:
    """Return the waves, numbered from 1. Each machine is in one wave. The same input gives the same waves.

    Canaries come from each location in turn, or are all machines of ``first_locations``. A jump host is in a later wave
    than all machines that are reached through it, because its reboot would interrupt their connections. The controller
    itself is in the last wave. In a set with an order of roles, a member is in a later wave than the members whose role
    has its turn before, and no canary. ``roles`` are those of members that were asked. Of others only the tags tell the
    role. ``no_canaries`` are machines that are none either. ``idle`` are those that would show nothing as canaries: no
    wave of them alone is a canary wave.

    Raises:
        RequestError: two machines have the same name, or the jump hosts and hypervisor hosts form a circle.
    """
    levels = compute_wave_levels(machines, sets, roles)
    by_name = {machine.name: machine for machine in machines}
    # in their sets, other machines have their turn before, because of their role
    later_roles = {
        name for machine_set in sets for group in _group_by_role(machine_set, by_name, roles)[1:] for name in group
    }
    size = policy.size or _compute_share(len(machines), policy.percent, rounds_down=policy.round_down)
    canaries = count_canaries(len(machines), policy)
    waves: list[Wave] = []
    for level in sorted(set(levels.values())):
        level_machines = [machine for machine in machines if levels[machine.name] == level]
        possible = [machine for machine in level_machines if machine.name not in {*later_roles, *no_canaries, *idle}]
        early = _interleave_locations(possible)[:canaries]
        canaries -= len(early)
        early_names = {machine.name for machine in early}
        later_machines = [machine for machine in level_machines if machine.name not in early_names]
        first = [machine for machine in later_machines if machine.location in policy.first_locations]
        others = [machine for machine in later_machines if machine.location not in policy.first_locations]
        for group in _split_by_location(early, policy):
            waves.append(Wave(len(waves) + 1, tuple(machine.name for machine in group), canary=True))
        for part, is_first in ((first, True), (others, False)):
            for group in _split_by_location(part, policy):
                for begin in range(0, len(group), size):
                    names = tuple(machine.name for machine in group[begin : begin + size])
                    waves.append(Wave(len(waves) + 1, names, canary=is_first and not set(names) <= set(idle)))
    return tuple(waves)


def describe_canaries(waves: Sequence[Wave], policy: WavePolicy) -> tuple[str, ...]:
    """Return the note of a plan that has no canaries although its owner wants some: no machine could show anything."""
    wants_some = policy.canary_count or policy.canary_percent or policy.first_locations
    if any(wave.canary for wave in waves) or not wants_some:
        return ()
    named = f" at {join_first_names(policy.first_locations)}" if policy.first_locations else ""
    return (f"no canary wave: no machine{named} that may be a canary has anything to install in this run",)


def count_canaries(machines: int, policy: WavePolicy) -> int:
    """Return the number of canaries; it may exceed the number of machines."""
    return max(policy.canary_count, _compute_share(machines, policy.canary_percent) if policy.canary_percent else 0)


def _compute_share(total: int, percent: float, *, rounds_down: bool = False) -> int:
    """Return a share of a number of machines, rounded up or down, at least one."""
    share = total * percent / 100  # 10 * 30.000000000000004 / 100 is 3, not 4
    return max(1, floor(share + 1e-9) if rounds_down else ceil(share - 1e-9))


def _group_by_location(machines: Sequence[Machine]) -> list[list[Machine]]:
    machines_by_location: dict[str, list[Machine]] = {}
    for machine in machines:
        machines_by_location.setdefault(machine.location, []).append(machine)
    return list(machines_by_location.values())


def _interleave_locations(machines: Sequence[Machine]) -> list[Machine]:
    """Return the machines in turn by location: first one of each location, then a second one of each, and so on."""
    turns = zip_longest(*_group_by_location(machines))
    return [machine for turn in turns for machine in turn if machine is not None]


def _split_by_location(machines: Sequence[Machine], policy: WavePolicy) -> list[list[Machine]]:
    """Return the groups to divide into waves: one group, or one for each location."""
    if not machines:
        return []
    return _group_by_location(machines) if policy.keep_locations_apart else [list(machines)]
