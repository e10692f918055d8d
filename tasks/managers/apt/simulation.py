"""Simulates the installation of a set of updates, and finds the ones that apt refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tasks.managers.apt.output_parsers import AptSimulation, parse_download_sizes
from tasks.model import Update
from tasks.protocols.package_manager import SimulationResult

MAX_SIMULATIONS: Final = 60
"""The maximum number of simulations in one call (each takes apt less than a second)."""

UpdateGroups = tuple[tuple[Update, ...], ...]


@dataclass(frozen=True, slots=True)
class SimulationAnswer:
    """apt's answer for one set: the simulation, and the text of ``--print-uris`` if it was requested."""

    simulation: AptSimulation
    uris: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether apt would install the set."""
        return not self.simulation.errors


class SimulateSet(Protocol):
    """The interface that simulates a set on the machine; with ``uris``, also its downloads."""

    def __call__(self, wanted: Sequence[Update], *, uris: bool) -> SimulationAnswer:
        """Simulate the set, in one call."""


def simulate_installation(updates: Sequence[Update], simulate_set: SimulateSet) -> SimulationResult:
    """Simulate an installation. If apt refuses the set, find the updates to leave out.

    Updates of one group stay together: they have one source package, and usually can only be installed together. First,
    leave out what apt does not know. Then extend an accepted set: first with all updates that apt did not name in an
    error, then with the rest. An accepted part is kept; a refused part is divided in halves. If k of n groups are
    refused and apt names none of them, this takes about 2 k log n simulations.
    """
    if not updates:
        return SimulationResult(changes={}, download_bytes=0, download_count=0)
    answer = simulate_set(updates, uris=True)
    if answer.is_accepted:
        return _build_simulation(answer, {})
    refused = {
        update.id: _describe_unknown_version(update)
        for update in updates
        if update.id in answer.simulation.unknown_packages
    }
    left = _group_updates([update for update in updates if update.id not in refused])
    suspects = tuple(unit for unit in left if any(update.id in answer.simulation.unmet_dependencies for update in unit))
    others = tuple(unit for unit in left if unit not in suspects)
    kept = _AcceptedSetSearch(simulate_set, MAX_SIMULATIONS).find_accepted_updates((others, suspects), refused)
    if not kept:
        return SimulationResult(changes={}, refused=refused, download_bytes=0, download_count=0)
    answer = simulate_set(kept, uris=True)
    if not answer.is_accepted:
        refused[""] = describe_refusal(answer.simulation)
    return _build_simulation(answer, refused)


def _describe_unknown_version(update: Update) -> str:
    return f"apt does not know {update.name} {update.available} (any more): its lists changed since the assessment"


def _group_updates(updates: Sequence[Update]) -> UpdateGroups:
    groups: dict[str, list[Update]] = {}
    for update in updates:
        groups.setdefault(update.group or update.id, []).append(update)
    return tuple(tuple(group) for group in groups.values())


@dataclass(slots=True)
class _AcceptedSetSearch:
    """The search for the largest set that apt accepts; ``simulations_left`` limits its cost."""

    simulate_set: SimulateSet
    simulations_left: int

    def find_accepted_updates(self, parts: Sequence[UpdateGroups], refused: dict[str, str]) -> tuple[Update, ...]:
        """Return the updates that apt accepts together. The others go to ``refused`` with apt's reason."""
        kept: tuple[Update, ...] = ()
        heap = [part for part in parts if part]
        while heap:
            part = heap.pop(0)
            if self.simulations_left <= 0:
                self._refuse_untested((part, *heap), refused)
                break
            self.simulations_left -= 1
            members = tuple(update for unit in part for update in unit)
            answer = self.simulate_set((*kept, *members), uris=False)
            if answer.is_accepted:
                kept = (*kept, *members)
            elif len(part) == 1:
                refused.update({update.id: describe_refusal(answer.simulation, update) for update in members})
            else:
                heap[:0] = _split_in_half(part)
        return kept

    def _refuse_untested(self, parts: Sequence[UpdateGroups], refused: dict[str, str]) -> None:
        reason = f"apt refused the set that it is in, and after {MAX_SIMULATIONS} simulations the culprit isn't found"
        refused.update({update.id: reason for part in parts for unit in part for update in unit})


def _split_in_half(units: UpdateGroups) -> list[UpdateGroups]:
    middle = (len(units) + 1) // 2
    return [half for half in (units[:middle], units[middle:]) if half]


def describe_refusal(simulation: AptSimulation, update: Update | None = None) -> str:
    """Return why apt refused, in apt's own words, shortened."""
    if update and update.id in simulation.unknown_packages:
        return _describe_unknown_version(update)
    unmet = [f"{name}: {what}" for name, what in simulation.unmet_dependencies.items()]
    return "; ".join(unmet[:5] or simulation.errors[:5]) or "apt gave no reason"


def _build_simulation(answer: SimulationAnswer, refused: Mapping[str, str]) -> SimulationResult:
    simulation = answer.simulation
    files = parse_download_sizes(answer.uris) if answer.uris is not None else None
    return SimulationResult(
        changes={change.name: change.new_version for change in simulation.changes} if answer.is_accepted else {},
        removals=simulation.removals if answer.is_accepted else (),
        refused=dict(refused) or None,
        download_bytes=sum(files.values()) if files is not None else None,
        download_count=len(files) if files is not None else None,
    )
