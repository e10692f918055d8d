"""Finds, by simulations, what prevents an installation (refusals, forbidden changes), and what comes along. Pure."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Protocol

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState, Selection, Update, UpdateResult
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import UpdateState
from tasks.rules.updates.selection import find_exclude_mask, find_forbidden_updates
from tasks.rules.updates.transaction_planning import group_updates, rank_urgency

_NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9+._\-]*[A-Za-z0-9+])?")
_ARCH_INDEPENDENT = frozenset({"noarch", "all"})


@dataclass(frozen=True, slots=True)
class Objections:
    """Why a simulated set of updates can't be installed.

    Attributes:
        refused: update id -> reason, for updates that can't be installed in any set.
        set_reasons: why the set can't be installed, apart from these.
        unwanted: packages that would be changed or removed, and must not be.
        named: what the package manager names in its refusal: updates of the set, and packages that they need.
        state: the state of an update that is left out for these reasons: Excluded, if only masks and holds are in the
            way.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    set_reasons: tuple[str, ...] = ()
    unwanted: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    state: UpdateState = UpdateState.BLOCKED

    def __bool__(self) -> bool:
        return bool(self.refused or self.set_reasons)


def find_objections(
    chosen: Iterable[Update],
    simulation: SimulationResult,
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    left_out: Mapping[str, UpdateResult] = MappingProxyType({}),
) -> Objections:
    """Return all objections to the installation of ``chosen`` that its simulation shows.

    Updates that are ``left_out`` (id -> result) were chosen but can't be installed. They are not allowed as
    dependencies either.
    """
    ids = {update.id for update in chosen}
    lead = "the package manager would not install it: "
    objections = [*_find_forbidden_changes(ids, simulation, packages, selection, left_out)]
    objections += _find_forbidden_removals(simulation, packages, selection)
    if simulation.removals and not allow_removals:
        names = ", ".join(sorted(simulation.removals))
        objections.append(_Objection(f"it would remove {names}, and removals are not allowed", simulation.removals))
    if simulation.refusal:
        holds = _find_holds_in_the_way(simulation, packages)
        note = f" ({join_first_names(holds)}: on hold on the machine)" if holds else ""
        objections.insert(0, _Objection(f"{lead}{simulation.refusal}{note}", is_by_person=bool(holds)))
    return Objections(
        refused={name: f"{lead}{reason}" for name, reason in simulation.refused.items() if name in ids},
        set_reasons=tuple(name.reason for name in objections),
        unwanted=frozenset(package for name in objections for package in name.packages),
        named=frozenset(simulation.named),
        state=UpdateState.EXCLUDED
        if objections and all(name.is_by_person for name in objections)
        else UpdateState.BLOCKED,
    )


def _find_holds_in_the_way(simulation: SimulationResult, packages: PackageState) -> list[str]:
    """Return the packages on hold with a pending update that a refusal names; none if a part of it names none."""
    held_names = {u.name for u in packages.updates if u.held or not {u.name, u.id}.isdisjoint(packages.held)}
    parts = [held_names & set(_NAME_PATTERN.findall(part)) for part in simulation.refusal.split("; ")]
    if not any(parts):  # the words may name no package
        return sorted(held_names & simulation.named)
    return sorted(set().union(*parts)) if all(parts) else []


@dataclass(frozen=True, slots=True)
class _Objection:
    reason: str
    packages: Sequence[str] = ()
    is_by_person: bool = False


def _find_forbidden_changes(
    ids: set[str],
    simulation: SimulationResult,
    packages: PackageState,
    selection: Selection,
    left_out: Mapping[str, UpdateResult],
) -> Iterator[_Objection]:
    """Yield an objection for each change of a package outside ``ids`` that is left out, or that a person forbids."""
    forbidden = find_forbidden_updates(packages, selection)
    pending = {update.id for update in packages.updates}
    archs = _ARCH_INDEPENDENT | {update.arch for update in packages.updates}
    for update_id in sorted(simulation.changes.keys() - ids):
        if result := left_out.get(update_id):
            reason = f"it would also change {result.update.name}, which is left out"
            yield _Objection(reason, (update_id,), result.state is UpdateState.EXCLUDED)
        elif result := forbidden.get(update_id):
            reason = f"it would also change {result.update.name}: {result.reason}"
            yield _Objection(reason, (update_id,), result.state is UpdateState.EXCLUDED)
        elif update_id not in pending:  # a new package, or a dependency
            objection = _check_package_names(_list_possible_names(update_id, archs), packages, selection)
            if objection:
                yield _Objection(f"it would also change {update_id}: {objection}", (update_id,), is_by_person=True)


def _find_forbidden_removals(
    simulation: SimulationResult, packages: PackageState, selection: Selection
) -> Iterator[_Objection]:
    """Yield an objection for each removal of an excluded or held package. It is never allowed."""
    archs = _ARCH_INDEPENDENT | {update.arch for update in packages.updates}
    for name in sorted(simulation.removals):
        objection = _check_package_names(_list_possible_names(name, archs), packages, selection)
        if objection:
            yield _Objection(f"it would remove {name}: {objection}", (name,), is_by_person=True)


def _check_package_names(names: set[str], packages: PackageState, selection: Selection) -> str:
    mask = find_exclude_mask(names, selection)
    if mask:
        return f'excluded by mask "{mask}"'
    return "a hold on the machine excludes it" if names & set(packages.held) else ""


def _list_possible_names(update_id: str, archs: Iterable[str]) -> set[str]:
    """Return the id, and the id without its architecture suffix (":arch" or ".arch")."""
    ends = tuple(f"{joint}{arch}" for arch in archs if arch for joint in (":", "."))
    return {update_id} | {update_id.removesuffix(end) for end in ends if update_id.endswith(end)}


_NOT_CHECKED_REASON = "not checked: the time was over before all updates were found that prevent the installation"


@dataclass(frozen=True, slots=True)
class FilteredSelection:
    """A set of updates that the package manager can install."""

    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    simulation: SimulationResult | None  # the simulation of exactly ``chosen``; None when ``chosen`` is empty
    simulation_count: int


class Simulate(Protocol):
    """The interface that simulates a set on the machine; ``keep`` names packages that must stay as they are."""

    def __call__(self, updates: Sequence[Update], *, keep: Collection[str]) -> SimulationResult:
        """Simulate the set, in one call."""


def filter_by_simulation(
    chosen: Sequence[Update],
    simulate: Simulate,
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    has_time: Callable[[], bool] = lambda: True,
) -> FilteredSelection:
    """Simulate, find the updates that prevent the installation, and leave out only these and updates that need them.

    Of two updates that can't be installed together, the more urgent one is chosen. When ``has_time`` says that the time
    is over, only what is known to be installable is chosen.

    Returns:
        The installable updates, the skipped updates with reasons, and the simulation of the installable updates.
    """

    def check(updates: Sequence[Update], simulation: SimulationResult, left_out: dict[str, UpdateResult]) -> Objections:
        return find_objections(
            updates, simulation, packages, selection, allow_removals=allow_removals, left_out=left_out
        )

    search = _CulpritSearch(simulate, check, has_time)
    installable, simulation = search.find_installable(sorted(group_updates(chosen), key=_rank_unit))
    left_out = search.left_out
    return FilteredSelection(
        chosen=tuple(update for update in chosen if update.id in installable),
        skipped=tuple(
            left_out.get(update.id) or UpdateResult(update, UpdateState.BLOCKED, _NOT_CHECKED_REASON)
            for update in chosen
            if update.id not in installable
        ),
        simulation=simulation,
        simulation_count=search.simulation_count,
    )


_Unit = list[Update]


def _rank_unit(unit: _Unit) -> int:
    return min(map(rank_urgency, unit))


def _find_units(units: Iterable[_Unit], ids: Collection[str]) -> list[_Unit]:
    return [unit for unit in units if any(update.id in ids for update in unit)]


def _join(units: Iterable[_Unit]) -> tuple[Update, ...]:
    return tuple(update for unit in units for update in unit)


class _OutOfTimeError(Exception):
    """There is no time for another simulation."""


class _NeededError(Exception):
    """An update that can't be installed, as its group can't, is needed by updates that were thought installable."""

    def __init__(self, unit: _Unit) -> None:
        super().__init__()
        self.unit = unit


class _CulpritSearch:
    """A search for the updates that prevent an installation.

    First the package manager is asked: it simulates the set once more, with the condition that what must not change
    stays as it is, and names the updates that contradict. Where it names none, the shortest list of updates that can't
    be installed is found by bisection: its last update is the culprit. With k culprits among n units, that takes about
    k (log2 n + 1) simulations. Lists begin with the most urgent units.
    """

    def __init__(
        self,
        simulate: Simulate,
        check: Callable[[Sequence[Update], SimulationResult, dict[str, UpdateResult]], Objections],
        has_time: Callable[[], bool],
    ) -> None:
        self._simulate = simulate
        self._check = check
        self._has_time = has_time
        self._answers: dict[tuple[frozenset[str], frozenset[str]], SimulationResult] = {}
        self._installable: list[_Unit] = []
        self._retryable: list[tuple[_Unit, int]] = []  # what is left out, and how many units were installable then
        self._barred: list[_Unit] = []  # what is left out before another search begins
        self.left_out: dict[str, UpdateResult] = {}

    @property
    def simulation_count(self) -> int:
        """The number of simulations."""
        return len(self._answers)

    def find_installable(self, units: list[_Unit]) -> tuple[frozenset[str], SimulationResult | None]:
        """Return the ids of the updates that can be installed together, and the simulation of this set."""
        while True:
            try:
                self._search([unit for unit in units if unit not in self._barred])
            except _OutOfTimeError:
                return self._find_best_answer(units)
            except _NeededError as error:
                self._barred.append(error.unit)
                self.left_out = {update.id: self.left_out[update.id] for update in _join(self._barred)}
            else:
                ids = frozenset(update.id for update in _join(self._installable))
                return ids, self._answers[ids, frozenset()] if ids else None

    def _search(self, units: list[_Unit]) -> None:
        self._installable = []
        self._retryable = [(unit, -1) for unit in self._barred]
        if not units or not self._find_objections(units):
            self._installable = units
        for rank in sorted(set(map(_rank_unit, units))) if not self._installable else ():
            remaining, suspects = self._set_suspects_aside([unit for unit in units if _rank_unit(unit) == rank])
            self._add_installable(remaining, expects_success=True)
            self._add_installable(suspects, expects_success=False)
        while again := [candidate for candidate in self._retryable if candidate[1] < len(self._installable)]:
            self._retryable.remove(again[0])
            for update in again[0][0]:
                del self.left_out[update.id]
            self._add_installable([again[0][0]], expects_success=False)

    def _set_suspects_aside(self, undecided: list[_Unit]) -> tuple[list[_Unit], list[_Unit]]:
        """Return the units without those that the package manager names as culprits, and these."""
        suspects: list[_Unit] = []
        keep: set[str] = set()
        while undecided:
            units = [*self._installable, *undecided]
            objections = self._find_objections(units, keep)
            named = _find_units(undecided, objections.named | objections.refused.keys())
            if not named:
                named_packages, objections = objections.named, self._find_objections(units)
                named = _find_units(undecided, objections.named | objections.refused.keys())
                unwanted = (objections.unwanted | named_packages) - keep - {update.id for update in _join(units)}
                if not objections or (not named and not unwanted):
                    break
                keep |= unwanted
            for unit in named:
                if any(update.id in objections.refused for update in unit):
                    self._leave_out(unit, objections)
                else:
                    suspects.append(unit)
            undecided = [unit for unit in undecided if unit not in named]
        return undecided, suspects

    def _add_installable(self, units: list[_Unit], *, expects_success: bool) -> None:
        """Add as many units as possible to those that are installable, in their order, and leave out the others.

        ``expects_success``: all of them are tried first, and not one.
        """
        while units:
            good, bad, objections = 0, len(units) + 1, Objections()
            probe = len(units) if expects_success else 1
            while good < min(bad - 1, len(units)):
                if probe_objections := self._find_objections([*self._installable, *units[:probe]]):
                    bad, objections = probe, probe_objections
                else:
                    good = probe
                probe = (good + bad) // 2 if objections else min(2 * good, len(units))
            self._installable += units[:good]
            if objections:
                self._leave_out(units[good], objections)
                expects_success = expects_success and good > 0
            units = units[bad:]

    def _leave_out(self, unit: _Unit, objections: Objections) -> None:
        culprit = next((update.name for update in unit if update.id in objections.refused), "")
        if culprit:
            reason = f"it belongs together with {culprit}, which can't be installed"
        else:
            self._retryable.append((unit, len(self._installable)))
            reason = "; ".join(objections.set_reasons)
            rivals = [update.name for update in _join(self._installable) if update.id in objections.named]
            reason += f"; not together with {join_first_names(rivals)}" if rivals else ""
        for update in unit:
            reason_of_update = objections.refused.get(update.id, reason)
            self.left_out[update.id] = UpdateResult(update, objections.state, reason_of_update)
        if self._installable and self._find_objections(self._installable):
            raise _NeededError(unit)

    def _find_objections(self, units: list[_Unit], keep: Iterable[str] = ()) -> Objections:
        """Return the objections to a set. It is simulated once at most."""
        updates = _join(units)
        key = frozenset(update.id for update in updates), frozenset(keep)
        if key not in self._answers:
            if not self._has_time():
                raise _OutOfTimeError
            self._answers[key] = self._simulate(updates, keep=key[1])
        return self._check(updates, self._answers[key], self.left_out)

    def _find_best_answer(self, units: list[_Unit]) -> tuple[frozenset[str], SimulationResult | None]:
        """Return the best installable set among those that were simulated: the one with most urgent updates."""
        best: tuple[frozenset[str], SimulationResult | None] = frozenset(), None
        best_counts: list[int] = []
        for (ids, keep), simulation in self._answers.items():
            members = [unit for unit in units if unit[0].id in ids]
            if keep or self._check(_join(members), simulation, self.left_out):
                continue
            # what is installed along with them counts as chosen
            along = {update.id for update in _join(units) if simulation.changes.get(update.id) == update.available}
            going = [unit for unit in units if unit in members or all(update.id in along for update in unit)]
            counts = [sum(_rank_unit(unit) == rank for unit in going) for rank in range(3)]
            if counts > best_counts:
                best, best_counts = (frozenset(update.id for update in _join(going)), simulation), counts
        return best
