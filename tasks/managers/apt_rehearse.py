"""What apt would do with a set of updates, and which of them are to blame when it refuses the whole set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tasks.managers.apt_parse import Simulation, parse_uris
from tasks.model import Update
from tasks.seams.manager import Rehearsal

MOST_SIMULATIONS: Final = 60
"""Simulations that one rehearsal may cost (each takes apt well under a second)."""

Units = tuple[tuple[Update, ...], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What apt said of one set: what it would do, and the text of ``--print-uris`` where that was asked for."""

    simulation: Simulation
    uris: str | None = None

    @property
    def agreed(self) -> bool:
        """Return whether apt would do it."""
        return not self.simulation.errors


class Ask(Protocol):
    """Asks the machine what it would do with a set; with ``uris``, also what it would download."""

    def __call__(self, wanted: Sequence[Update], *, uris: bool) -> Answer:
        """Ask, in one round trip."""
        ...


def rehearse(updates: Sequence[Update], ask: Ask) -> Rehearsal:
    """Ask apt what it would do; when it refuses the set, find out whom to leave out.

    Updates of one group stay together: they are one source package, and mostly go only together. What apt does not
    know at all is left out first. Then a set that apt agrees to grows: first by all that apt did not complain of, then
    by the rest. What fits is kept; what doesn't is parted in halves, so that k culprits among n groups that apt gave no
    hint of cost about 2 k log n simulations.
    """
    if not updates:
        return Rehearsal(changes={}, download_bytes=0, download_count=0)
    answer = ask(updates, uris=True)
    if answer.agreed:
        return _rehearsal(answer, {})
    refused = {update.id: _unknown(update) for update in updates if update.id in answer.simulation.missing}
    left = _groups([update for update in updates if update.id not in refused])
    suspects = tuple(unit for unit in left if any(update.id in answer.simulation.unmet for update in unit))
    others = tuple(unit for unit in left if unit not in suspects)
    kept = _Search(ask, MOST_SIMULATIONS).grow((others, suspects), refused)
    if not kept:
        return Rehearsal(changes={}, refused=refused, download_bytes=0, download_count=0)
    answer = ask(kept, uris=True)
    if not answer.agreed:
        refused[""] = why(answer.simulation)
    return _rehearsal(answer, refused)


def _unknown(update: Update) -> str:
    return f"apt does not know {update.name} {update.available} (any more): its lists changed since the assessment"


def _groups(updates: Sequence[Update]) -> Units:
    groups: dict[str, list[Update]] = {}
    for update in updates:
        groups.setdefault(update.group or update.id, []).append(update)
    return tuple(tuple(group) for group in groups.values())


@dataclass(slots=True)
class _Search:
    """The search for a largest set that apt agrees to; ``left`` is what it may still cost."""

    ask: Ask
    left: int

    def grow(self, parts: Sequence[Units], refused: dict[str, str]) -> tuple[Update, ...]:
        """Return what fits together; what doesn't goes to ``refused`` with apt's reason."""
        kept: tuple[Update, ...] = ()
        heap = [part for part in parts if part]
        while heap:
            part = heap.pop(0)
            if self.left <= 0:
                self._give_up((part, *heap), refused)
                break
            self.left -= 1
            members = tuple(update for unit in part for update in unit)
            answer = self.ask((*kept, *members), uris=False)
            if answer.agreed:
                kept = (*kept, *members)
            elif len(part) == 1:
                refused.update({update.id: why(answer.simulation, update) for update in members})
            else:
                heap[:0] = _halves(part)
        return kept

    def _give_up(self, parts: Sequence[Units], refused: dict[str, str]) -> None:
        reason = f"apt refused the set that it is in, and after {MOST_SIMULATIONS} simulations the culprit isn't found"
        refused.update({update.id: reason for part in parts for unit in part for update in unit})


def _halves(units: Units) -> list[Units]:
    middle = (len(units) + 1) // 2
    return [half for half in (units[:middle], units[middle:]) if half]


def why(simulation: Simulation, update: Update | None = None) -> str:
    """Return why apt refused, in its own words, as short as they allow."""
    if update and update.id in simulation.missing:
        return _unknown(update)
    unmet = [f"{name}: {what}" for name, what in simulation.unmet.items()]
    return "; ".join(unmet[:5] or simulation.errors[:5]) or "apt gave no reason"


def _rehearsal(answer: Answer, refused: Mapping[str, str]) -> Rehearsal:
    simulation = answer.simulation
    files = parse_uris(answer.uris) if answer.uris is not None else None
    return Rehearsal(
        changes={change.name: change.new for change in simulation.changes} if answer.agreed else {},
        removals=simulation.removals if answer.agreed else (),
        refused=dict(refused) or None,
        download_bytes=sum(files.values()) if files is not None else None,
        download_count=len(files) if files is not None else None,
    )
