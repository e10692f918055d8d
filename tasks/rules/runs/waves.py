"""Divides machines into waves: canary waves first, then the other waves."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType

from inventory.machine import Machine
from inventory.machine_sets import MachineSet
from tasks.domain.errors import RequestError
from tasks.domain.model import Wave
from tasks.rules.runs.failure_budget import DEFAULT_FAILURE_PERCENT, DEFAULT_UNREACHABLE_PERCENT, FailureBudget
from tasks.rules.runs.wave_levels import KnownRoles, compute_wave_levels, find_members_of_later_roles


@dataclass(frozen=True, slots=True)
class WavePolicy:
    """How machines are divided into waves.

    Attributes:
        canary_count: number of canaries. The larger of this and ``canary_percent`` counts.
        canary_percent: share of all machines that are canaries, rounded up.
        size: machines in a wave; None: ``percent`` of all machines, rounded up, at least one (Azure: 20 %).
        at_once: machines of a wave that are patched in parallel.
        pause_seconds: pause between the end of a wave and the start of the next.
        failure_budget_count: see FailureBudget. If count and percent are both None, 20 % are allowed.
        failure_budget_percent: see FailureBudget.
        unreachable_percent: see FailureBudget.
        go_on_after_failed_canary: see FailureBudget.
        keep_locations_apart: whether each wave has machines of one location only.
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
) -> tuple[Wave, ...]:
    """Return the waves, numbered from 1. Each machine is in one wave. The same input gives the same waves.

    Canaries come from each location in turn. A jump host is in a later wave than all machines that are reached through
    it, because its reboot would interrupt their connections. The controller itself is in the last wave. In a set with
    an order of roles, a member is in a later wave than the members whose role has its turn before, and no canary.

    Args:
        machines: the machines of the run.
        policy: how they are divided.
        sets: machine sets of the inventory.
        roles: the roles of members that were asked. Of others only the tags tell the role.

    Raises:
        RequestError: two machines have the same name, or the jump hosts form a circle.
    """
    levels = compute_wave_levels(machines, sets, roles)
    no_canaries = find_members_of_later_roles(machines, sets, roles)
    size = policy.size or _compute_share(len(machines), policy.percent)
    canaries = count_canaries(len(machines), policy)
    waves: list[Wave] = []
    for level in sorted(set(levels.values())):
        here = [machine for machine in machines if levels[machine.name] == level]
        early = _interleave_locations([each for each in here if each.name not in no_canaries])[:canaries]
        canaries -= len(early)
        early_names = {machine.name for machine in early}
        later_machines = [machine for machine in here if machine.name not in early_names]
        for group in _split_by_location(early, policy):
            waves.append(_build_wave(len(waves) + 1, group, canary=True))
        for group in _split_by_location(later_machines, policy):
            for begin in range(0, len(group), size):
                waves.append(_build_wave(len(waves) + 1, group[begin : begin + size], canary=False))
    return tuple(waves)


def count_canaries(machines: int, policy: WavePolicy) -> int:
    """Return the number of canaries; it may exceed the number of machines."""
    return max(policy.canary_count, _compute_share(machines, policy.canary_percent) if policy.canary_percent else 0)


def _compute_share(total: int, percent: float) -> int:
    """Return a share of a number of machines, rounded up, at least one."""
    return max(1, ceil(total * percent / 100 - 1e-9))  # 10 * 30.000000000000004 / 100 is 3, not 4


def _build_wave(number: int, machines: Sequence[Machine], *, canary: bool) -> Wave:
    return Wave(number, tuple(machine.name for machine in machines), canary)


def _group_by_location(machines: Sequence[Machine]) -> list[list[Machine]]:
    places: dict[str, list[Machine]] = {}
    for machine in machines:
        places.setdefault(machine.location, []).append(machine)
    return list(places.values())


def _interleave_locations(machines: Sequence[Machine]) -> list[Machine]:
    """Return the machines in turn by location: first one of each location, then a second one of each, and so on."""
    places = _group_by_location(machines)
    longest = max((len(location_machines) for location_machines in places), default=0)
    return [
        location_machines[turn]
        for turn in range(longest)
        for location_machines in places
        if turn < len(location_machines)
    ]


def _split_by_location(machines: Sequence[Machine], policy: WavePolicy) -> list[list[Machine]]:
    """Return the groups to divide into waves: one group, or one for each location."""
    if not machines:
        return []
    return _group_by_location(machines) if policy.keep_locations_apart else [list(machines)]
