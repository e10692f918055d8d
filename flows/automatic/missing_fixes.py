"""Since when machines lack fixes: computed from the newest assessments, and stored by each tick. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from flows.automatic.later_records import drop_later_sightings
from flows.automatic.pending_updates import PendingRow
from tasks.records.automatic.sightings import MissingKey, SightingChanges
from tasks.rules.automatic.deadlines import Sighting, find_missing_since
from tasks.rules.automatic.fleet_index import CLOCK_TOLERANCE
from tasks.rules.automatic.model import UpdateKey


@dataclass(frozen=True, slots=True)
class MissingFixes:
    """Since when machines lack fixes.

    Attributes:
        since: by machine and name of the update.
        changes: what the records do not have yet.
    """

    since: Mapping[MissingKey, datetime]
    changes: SightingChanges


def compute_missing_fixes(
    rows: Mapping[str, tuple[PendingRow, ...]],
    sightings: Mapping[UpdateKey, Sighting],
    stored: Mapping[MissingKey, datetime],
    assessed: Collection[str],
    now: datetime,
) -> MissingFixes:
    """Return since when machines lack fixes, and what is new about that.

    Args:
        rows: pending updates by machine.
        sightings: what the records have.
        stored: what the records have of these machines.
        assessed: machines that have an assessment with an answer. Only they can show that a fix is installed.
        now: the present time.
    """
    limit = now + CLOCK_TOLERANCE
    valid = drop_later_sightings(sightings, limit)
    new_sightings = _find_new_sightings(rows, valid, limit)
    known = {**valid, **new_sightings}
    since: dict[MissingKey, datetime] = {}
    for machine, own in rows.items():
        earlier = ((row.name, stored.get((machine, row.name))) for row in own)
        before = {name: moment for name, moment in earlier if moment is not None and moment <= limit}
        fixed = {row.name for row in own if row.name in before and _has_fix(row, before[row.name], known)}
        claimed = {row.key: Sighting(known[row.key].first_seen, _find_publication(row, limit)) for row in own}
        missing_since = find_missing_since(before, list(claimed), claimed, now, fixed)
        since |= {(machine, name): moment for name, moment in missing_since.items()}
    answered = frozenset(assessed)
    changes = SightingChanges(
        sightings=new_sightings,
        missing={key: moment for key, moment in since.items() if stored.get(key) != moment},
        fixed=tuple(key for key in stored if key not in since and key[0] in answered),
    )
    return MissingFixes(since, changes)


def _has_fix(row: PendingRow, since: datetime, sightings: Mapping[UpdateKey, Sighting]) -> bool:
    """Return whether a machine has installed a version since then: it has what was released until that version."""
    installed = sightings.get((row.name, row.installed)) if row.installed is not None else None
    return installed is not None and since <= installed.first_seen


def _find_publication(row: PendingRow, limit: datetime) -> datetime | None:
    """Return the publication that the machine itself reports. It counts for no other machine: it may be a lie."""
    return row.published if row.published is not None and row.published <= limit else None


def _find_new_sightings(
    rows: Mapping[str, tuple[PendingRow, ...]], sightings: Mapping[UpdateKey, Sighting], limit: datetime
) -> dict[UpdateKey, Sighting]:
    """Return updates that were never seen, and those whose publication was not known before."""
    new_sightings: dict[UpdateKey, Sighting] = {}
    for own in rows.values():
        for row in own:
            stored = sightings.get(row.key)
            published = _find_publication(row, limit)
            if stored is not None and (stored.published is not None or published is None):
                continue
            earlier = new_sightings.get(row.key) or stored or Sighting(row.seen_at, published)
            first_seen = earlier.first_seen if stored is not None else min(earlier.first_seen, row.seen_at)
            new_sightings[row.key] = Sighting(first_seen, earlier.published or published)
    return new_sightings
