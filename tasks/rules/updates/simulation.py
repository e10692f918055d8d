"""Checks chosen updates by simulation: forbidden dependencies, removals and refusals. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tasks.model import PackageState, Selection, Update, UpdateResult
from tasks.protocols.package_manager import SimulationResult
from tasks.rules.updates.installation_order import group_updates
from tasks.rules.updates.selection import find_exclude_mask, find_forbidden_updates
from tasks.states import UpdateState

_SIMULATION_LIMIT_REASON = "not checked to the end: too many simulations were needed to find what blocks it"
_ARCH_INDEPENDENT = frozenset({"noarch", "all"})


@dataclass(frozen=True, slots=True)
class SimulationObjections:
    """Why a simulated set of updates can't be installed.

    Attributes:
        by_update: update id -> reason, for updates that the simulation names as the cause.
        to_whole_set: reasons without a single update as the cause; empty when there are none.
    """

    by_update: Mapping[str, str]
    to_whole_set: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilteredSelection:
    """A set of updates that the package manager can install.

    Attributes:
        simulation: the simulation of exactly ``chosen``; None when ``chosen`` is empty.
        simulation_count: number of simulations.
    """

    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    simulation: SimulationResult | None
    simulation_count: int


def find_objections(
    chosen: Sequence[Update],
    simulation: SimulationResult,
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> SimulationObjections:
    """Return all objections to the installation of ``chosen`` that its simulation shows.

    Args:
        chosen: the simulated updates.
        simulation: the simulation of exactly these updates.
        packages: the package state from which ``chosen`` was selected.
        selection: the selection of the request.
        allow_removals: whether packages may be removed.
        left_out: update id -> name of updates that were chosen but can't be installed. They are not allowed as
            dependencies either.
    """
    ids = {update.id for update in chosen}
    blamed: dict[str, str] = {}
    whole: list[str] = []
    for update_id, words in (simulation.refused or {}).items():
        reason = f"the package manager would not install it: {words}"
        if update_id in ids:
            blamed[update_id] = reason
        elif update_id == "":
            whole.append(reason)
    hits = [
        *(f"it would also change {left_out[each]}, which is left out" for each in _find_needed(simulation, left_out)),
        *_find_forbidden_changes(ids, simulation, packages, selection),
        *_find_forbidden_removals(simulation, packages, selection),
    ]
    if simulation.removals and not allow_removals:
        hits.append(f"it would remove {', '.join(sorted(simulation.removals))}, and removals are not allowed")
    if len(chosen) == 1:
        blamed.setdefault(chosen[0].id, "; ".join([*whole, *hits])) if whole or hits else None
        return SimulationObjections(blamed, ())
    return SimulationObjections(blamed, (*whole, *hits))


def _find_needed(simulation: SimulationResult, left_out: Iterable[str]) -> list[str]:
    return sorted(set(left_out) & set(simulation.changes))


def _find_forbidden_changes(
    ids: set[str], simulation: SimulationResult, packages: PackageState, selection: Selection
) -> Iterable[str]:
    """Yield a sentence for each change of a package outside ``ids`` that an exclude or a hold forbids."""
    forbidden_reasons = find_forbidden_updates(packages, selection)
    names = {update.id: update.name for update in packages.updates}
    known_archs = _ARCH_INDEPENDENT | {update.arch for update in packages.updates}
    for update_id in sorted(set(simulation.changes) - ids):
        if update_id in forbidden_reasons:
            yield f"it would also change {names[update_id]}: {forbidden_reasons[update_id]}"
        elif update_id not in names:  # not a pending update: a new package, or a dependency
            why = _check_package_names(_list_possible_names(update_id, known_archs), packages, selection)
            if why:
                yield f"it would also change {update_id}: {why}"


def _find_forbidden_removals(
    simulation: SimulationResult, packages: PackageState, selection: Selection
) -> Iterable[str]:
    """Yield a sentence for each removal of an excluded or held package. It is never allowed."""
    archs = _ARCH_INDEPENDENT | {update.arch for update in packages.updates}
    for name in sorted(simulation.removals):
        why = _check_package_names(_list_possible_names(name, archs), packages, selection)
        if why:
            yield f"it would remove {name}: {why}"


def _check_package_names(names: set[str], packages: PackageState, selection: Selection) -> str:
    mask = find_exclude_mask(names, selection)
    if mask:
        return f'excluded by mask "{mask}"'
    return "a hold on the machine excludes it" if names & set(packages.held) else ""


def _list_possible_names(update_id: str, archs: Iterable[str]) -> set[str]:
    """Return the id, and the id without its architecture suffix (":arch" or ".arch")."""
    ends = tuple(f"{joint}{arch}" for arch in archs if arch for joint in (":", "."))
    return {update_id} | {update_id.removesuffix(end) for end in ends if update_id.endswith(end)}


class _SimulationFilter:
    """A search by bisection for the updates that prevent an installation, with a limited number of simulations.

    An update that one round of ``resolve_dependencies`` leaves out is an objection in the next round: updates that need
    it are left out too.
    """

    def __init__(
        self,
        simulate: Callable[[Sequence[Update]], SimulationResult],
        check: Callable[[Sequence[Update], SimulationResult, Mapping[str, str]], SimulationObjections],
        max_simulations: int,
    ) -> None:
        self._simulate = simulate
        self._check = check
        self._remaining_simulations = max_simulations
        self._left_out: Mapping[str, str] = {}
        self.simulation_count = 0
        self.skipped: list[UpdateResult] = []

    def resolve_dependencies(self, units: list[list[Update]]) -> tuple[list[list[Update]], SimulationResult | None]:
        """Return the units that can be installed together and need no left-out update, with their simulation."""
        while True:
            units, simulation = self.find_installable(units)
            left_out = {result.update.id: result.update.name for result in self.skipped}
            if simulation is None or not _find_needed(simulation, left_out):
                return units, simulation
            self._left_out = left_out

    def find_installable(self, units: list[list[Update]]) -> tuple[list[list[Update]], SimulationResult | None]:
        """Return the units that can be installed together, and their simulation. Add the others to ``skipped``."""
        while units:
            if self._remaining_simulations <= 0:
                self._skip_units(units, _SIMULATION_LIMIT_REASON)
                break
            simulation, found = self._simulate_units(units)
            if found.by_update:
                units = self._skip_blamed(units, found.by_update)
            elif not found.to_whole_set:
                return units, simulation
            elif len(units) == 1:
                self._skip_units(units, "; ".join(found.to_whole_set))
                break
            else:
                return self._find_installable_by_halves(units)
        return [], None

    def _find_installable_by_halves(
        self, units: list[list[Update]]
    ) -> tuple[list[list[Update]], SimulationResult | None]:
        middle = len(units) // 2
        first, simulation = self.find_installable(units[:middle])
        second, second_simulation = self.find_installable(units[middle:])
        if not first or not second:
            return (first, simulation) if first else (second, second_simulation)
        return self._merge_installable(first, simulation, second)

    def _merge_installable(
        self, installable: list[list[Update]], simulation: SimulationResult | None, more: list[list[Update]]
    ) -> tuple[list[list[Update]], SimulationResult | None]:
        """Add as many units as possible to an installable set. Each of the two sets is installable alone."""
        if self._remaining_simulations <= 0:
            self._skip_units(more, _SIMULATION_LIMIT_REASON)
            return installable, simulation
        both = [*installable, *more]
        asked, found = self._simulate_units(both)
        if not found.by_update and not found.to_whole_set:
            return both, asked
        if len(more) == 1:
            words = "; ".join((*found.by_update.values(), *found.to_whole_set))
            self._skip_units(more, f"not together with the other updates of this run: {words}")
            return installable, simulation
        middle = len(more) // 2
        installable, simulation = self._merge_installable(installable, simulation, more[:middle])
        return self._merge_installable(installable, simulation, more[middle:])

    def _simulate_units(self, units: list[list[Update]]) -> tuple[SimulationResult, SimulationObjections]:
        updates = [update for unit in units for update in unit]
        self._remaining_simulations -= 1
        self.simulation_count += 1
        simulation = self._simulate(updates)
        return simulation, self._check(updates, simulation, self._left_out)

    def _skip_blamed(self, units: list[list[Update]], blamed: Mapping[str, str]) -> list[list[Update]]:
        """Remove each unit with a blamed update: a unit is left out as a whole."""
        kept: list[list[Update]] = []
        for unit in units:
            reasons = {update.id: blamed[update.id] for update in unit if update.id in blamed}
            if not reasons:
                kept.append(unit)
                continue
            culprit = next(update.name for update in unit if update.id in reasons)
            for update in unit:
                reason = reasons.get(update.id, f"it belongs together with {culprit}, which can't be installed")
                self.skipped.append(UpdateResult(update, UpdateState.EXCLUDED, reason))
        return kept

    def _skip_units(self, units: list[list[Update]], reason: str) -> None:
        self.skipped += [UpdateResult(update, UpdateState.EXCLUDED, reason) for unit in units for update in unit]


def filter_by_simulation(
    chosen: Sequence[Update],
    simulate: Callable[[Sequence[Update]], SimulationResult],
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    max_simulations: int = 40,
) -> FilteredSelection:
    """Simulate, find the updates that prevent the installation, and leave out only these and updates that need them.

    Args:
        chosen: the selected updates.
        simulate: function that simulates the installation of a set on the machine.
        packages: the package state from which ``chosen`` was selected.
        selection: the selection of the request.
        allow_removals: whether packages may be removed.
        max_simulations: limit of simulations. Updates that are not cleared by then are left out with a reason.

    Returns:
        The installable updates, the skipped updates with reasons, and the simulation of the installable updates.
    """
    simulation_filter = _SimulationFilter(
        simulate,
        lambda updates, rehearsal, left_out: find_objections(
            updates, rehearsal, packages, selection, allow_removals=allow_removals, left_out=left_out
        ),
        max_simulations,
    )
    units, simulation = simulation_filter.resolve_dependencies(group_updates(chosen))
    installable_ids = {update.id for unit in units for update in unit}
    reasons = {result.update.id: result for result in simulation_filter.skipped}
    return FilteredSelection(
        chosen=tuple(update for update in chosen if update.id in installable_ids),
        skipped=tuple(reasons[update.id] for update in chosen if update.id not in installable_ids),
        simulation=simulation if units else None,
        simulation_count=simulation_filter.simulation_count,
    )
