"""What prevents the installation of a simulated set of updates: refusals, forbidden changes and removals. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from inventory.name_lists import join_first_names
from tasks.domain.model import PackageState, Selection, Update, UpdateResult
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import UpdateState
from tasks.rules.updates.selection import find_exclude_mask, find_forbidden_updates

_NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9+._\-]*[A-Za-z0-9+])?")
_ARCH_INDEPENDENT = frozenset({"noarch", "all"})


@dataclass(frozen=True, slots=True)
class Objections:
    """Why a simulated set of updates can't be installed.

    Attributes:
        refused: update id -> reason, for updates that can't be installed in any set.
        reasons: why the set can't be installed, apart from these.
        unwanted: packages that would be changed or removed, and must not be.
        named: what the package manager names in its refusal: updates of the set, and packages that they need.
        state: the state of an update that is left out for these reasons: Excluded, if only masks and holds are in the
            way.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    unwanted: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    state: UpdateState = UpdateState.BLOCKED

    def __bool__(self) -> bool:
        return bool(self.refused or self.reasons)


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
        reasons=tuple(name.reason for name in objections),
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
