"""Simulates the installation of a set of updates, and finds the ones that the package manager refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tasks.model import Update
from tasks.protocols.package_manager import SimulationResult

MAX_SIMULATIONS: Final = 60
"""The maximum number of simulations in one call (each takes about a second)."""

UpdateGroups = tuple[tuple[Update, ...], ...]


@dataclass(frozen=True, slots=True)
class SimulationAnswer:
    """The package manager's answer for one set of updates.

    Attributes:
        changes: update id -> version that it would install.
        removals: names of packages that it would remove.
        unknown_updates: ids of updates that it does not know, in that version.
        unmet_dependencies: update id -> why it can't be installed.
        errors: why it refuses the set, in its own words; empty when it accepts the set.
        downloads: file -> bytes, for files that are not downloaded yet; None when unknown.
    """

    changes: Mapping[str, str] = field(default_factory=dict)
    removals: tuple[str, ...] = ()
    unknown_updates: tuple[str, ...] = ()
    unmet_dependencies: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    downloads: Mapping[str, int] | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the package manager would install the set."""
        return not self.errors


class SimulateSet(Protocol):
    """The interface that simulates a set on the machine; with ``downloads``, also what it would download."""

    def __call__(self, wanted: Sequence[Update], *, downloads: bool) -> SimulationAnswer:
        """Simulate the set, in one call."""


def simulate_installation(updates: Sequence[Update], simulate_set: SimulateSet) -> SimulationResult:
    """Simulate an installation. If the package manager refuses the set, find the updates to leave out.

    Updates of one group stay together: they have one source package, and usually can only be installed together.
    First, leave out what the package manager does not know. Then extend an accepted set: first with all updates that
    it did not name in an error, then with the rest. An accepted part is kept; a refused part is divided in halves. If
    k of n groups are refused and it names none of them, this takes about 2 k log n simulations.
    """
    if not updates:
        return SimulationResult(changes={}, download_bytes=0, download_count=0)
    answer = simulate_set(updates, downloads=True)
    if answer.is_accepted:
        return _build_simulation(answer, {})
    refused = {
        update.id: _describe_unknown_version(update) for update in updates if update.id in answer.unknown_updates
    }
    left = _group_updates([update for update in updates if update.id not in refused])
    suspects = tuple(unit for unit in left if any(update.id in answer.unmet_dependencies for update in unit))
    others = tuple(unit for unit in left if unit not in suspects)
    kept = _AcceptedSetSearch(simulate_set, MAX_SIMULATIONS).find_accepted_updates((others, suspects), refused)
    if not kept:
        return SimulationResult(changes={}, refused=refused, download_bytes=0, download_count=0)
    answer = simulate_set(kept, downloads=True)
    if not answer.is_accepted:
        refused[""] = describe_refusal(answer)
    return _build_simulation(answer, refused)


def _describe_unknown_version(update: Update) -> str:
    return (
        f"the repositories do not have {update.name} {update.available} (any more): they changed since the assessment"
    )


def _group_updates(updates: Sequence[Update]) -> UpdateGroups:
    groups: dict[str, list[Update]] = {}
    for update in updates:
        groups.setdefault(update.group or update.id, []).append(update)
    return tuple(tuple(group) for group in groups.values())


@dataclass(slots=True)
class _AcceptedSetSearch:
    """The search for the largest set that the package manager accepts; ``simulations_left`` limits its cost."""

    simulate_set: SimulateSet
    simulations_left: int

    def find_accepted_updates(self, parts: Sequence[UpdateGroups], refused: dict[str, str]) -> tuple[Update, ...]:
        """Return the updates that are accepted together. The others go to ``refused`` with the reason."""
        kept: tuple[Update, ...] = ()
        heap = [part for part in parts if part]
        while heap:
            part = heap.pop(0)
            if self.simulations_left <= 0:
                self._refuse_untested((part, *heap), refused)
                break
            self.simulations_left -= 1
            members = tuple(update for unit in part for update in unit)
            answer = self.simulate_set((*kept, *members), downloads=False)
            if answer.is_accepted:
                kept = (*kept, *members)
            elif len(part) == 1:
                refused.update({update.id: describe_refusal(answer, update) for update in members})
            else:
                heap[:0] = _split_in_half(part)
        return kept

    def _refuse_untested(self, parts: Sequence[UpdateGroups], refused: dict[str, str]) -> None:
        reason = (
            f"the package manager refused the set that it is in, and {MAX_SIMULATIONS} simulations did not find which "
            "update is to blame"
        )
        refused.update({update.id: reason for part in parts for unit in part for update in unit})


def _split_in_half(units: UpdateGroups) -> list[UpdateGroups]:
    middle = (len(units) + 1) // 2
    return [half for half in (units[:middle], units[middle:]) if half]


def describe_refusal(answer: SimulationAnswer, update: Update | None = None) -> str:
    """Return why the package manager refused, in its own words, shortened."""
    if update and update.id in answer.unknown_updates:
        return _describe_unknown_version(update)
    unmet = [f"{name}: {what}" for name, what in answer.unmet_dependencies.items()]
    return "; ".join(unmet[:5] or answer.errors[:5]) or "the package manager gave no reason"


def _build_simulation(answer: SimulationAnswer, refused: Mapping[str, str]) -> SimulationResult:
    files = answer.downloads
    return SimulationResult(
        changes=dict(answer.changes) if answer.is_accepted else {},
        removals=answer.removals if answer.is_accepted else (),
        refused=dict(refused) or None,
        download_bytes=sum(files.values()) if files is not None else None,
        download_count=len(files) if files is not None else None,
    )
