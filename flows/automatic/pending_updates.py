"""The pending updates of machines, as a run of the policy would install them, and since when they are missing.

Records that are later than now are left out: the controller's clock was ahead when they were made. Without this, a
machine that was assessed in the far future would count as seen, and never be assessed again. Pure.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.assessment import build_sight_key, build_update_key
from tasks.domain.model import Assessment, PackageState, Selection, Update, UpdateKey
from tasks.domain.states import Classification, Severity
from tasks.records.automatic.sightings import MissingKey
from tasks.rules.automatic.deadlines import find_missing_since
from tasks.rules.automatic.fleet_index import CLOCK_TOLERANCE
from tasks.rules.automatic.model import AutomaticPolicy
from tasks.rules.updates.selection import select_updates


@dataclass(frozen=True, slots=True)
class PendingRow:
    """One pending update of a machine's newest assessment that has an answer."""

    name: str
    # The version of the key that a run of the policy would install: of a package with security fixes the newest one of
    # them, if the policy wants only those.
    version: str
    classification: Classification
    severity: Severity
    cves: tuple[str, ...]
    held: str  # why a run would not install it on this machine although the policy selects it, or ""
    installed: str | None  # the version that is installed; None: it would be a new package
    published: datetime | None
    seen_at: datetime

    @property
    def key(self) -> UpdateKey:
        """Name and version."""
        return (self.name, self.version)


class PendingUpdateFinder:
    """Finds pending updates in assessments. Machines of a fleet are similar: equal lists are selected from once."""

    def __init__(self, policy: AutomaticPolicy) -> None:
        self._selection = Selection(classifications=policy.classifications, exclude=policy.exclude)
        classifications = policy.classifications
        esm = (
            {Classification.SECURITY_ESM} if Classification.SECURITY in classifications else frozenset[Classification]()
        )
        self._wanted = classifications | esm
        self._selected: dict[tuple[int, tuple[str, ...]], tuple[PackageState, tuple[tuple[Update, str], ...]]] = {}

    def list_pending(self, assessment: Assessment) -> tuple[PendingRow, ...]:
        """Return the pending updates of a machine, one for each name and version: architectures do not matter here."""
        rows_by_update: dict[UpdateKey, PendingRow] = {}
        for update, hold_reason in self._select(assessment.packages) if assessment.packages is not None else ():
            # Older versions that are still offered count as well: a rollout may have frozen one of them.
            for version in (update.available, *update.older_versions):
                row = PendingRow(
                    *build_update_key(update.name, update.id, version),
                    update.classification,
                    Severity.rate(update.severity),
                    tuple(update.cves or ()),
                    hold_reason,
                    update.installed,
                    update.published,
                    assessment.at,
                )
                if row.key not in rows_by_update or (rows_by_update[row.key].held and not hold_reason):
                    rows_by_update[row.key] = row
        return tuple(rows_by_update.values())

    def _select(self, packages: PackageState) -> tuple[tuple[Update, str], ...]:
        """Return the updates with the reason why a run would not install them, or ""."""
        key = (id(packages.updates), packages.held)
        if key not in self._selected:
            self._selected[key] = (packages, tuple(self._iterate_updates(packages)))  # kept: the id stays taken
        return self._selected[key][1]

    def _iterate_updates(self, packages: PackageState) -> Iterator[tuple[Update, str]]:
        chosen, skipped = select_updates(packages, self._selection)
        yield from ((update, "") for update in chosen)
        for result in skipped:
            is_wanted = result.update.classification in self._wanted
            yield result.update, result.reason if is_wanted else ""


@dataclass(frozen=True, slots=True)
class MissingFixes:
    """Since when machines lack fixes."""

    since: Mapping[MissingKey, datetime]  # by machine and name of the update
    unsaved: Mapping[MissingKey, datetime]  # of them, what the records do not have yet
    fixed: Collection[MissingKey]  # what the records have, and the machines lack no more


def compute_missing_fixes(
    rows: Mapping[str, tuple[PendingRow, ...]],
    first_seen: Mapping[UpdateKey, datetime],
    stored: Mapping[MissingKey, datetime],
    assessed: Collection[str],
    now: datetime,
) -> MissingFixes:
    """Return since when machines lack fixes, and what is new about that.

    ``first_seen`` says when the fleet first saw updates. ``stored`` is what the records have of these machines. Only
    machines that were ``assessed``, with an answer, can show that a fix is installed.
    """
    limit = now + CLOCK_TOLERANCE
    seen = {key: at for key, at in first_seen.items() if at <= limit}
    for row in (row for machine_rows in rows.values() for row in machine_rows):
        key = build_sight_key(row.key)
        seen[key] = min(seen.get(key, row.seen_at), row.seen_at)
    since: dict[MissingKey, datetime] = {}
    for machine, updates in rows.items():
        # an update on Windows with the number of an earlier one is not missing since that one
        named = (row for row in updates if build_sight_key(row.key) == row.key)
        earlier = ((row.name, stored.get((machine, row.name))) for row in named)
        before = {name: moment for name, moment in earlier if moment is not None and moment <= limit}
        fixed = {  # it has installed a version since then: it has what was released until that version
            row.name
            for row in updates
            if row.name in before and (at := seen.get((row.name, row.installed or ""))) and before[row.name] <= at
        }
        released = {row.key: _find_release(row, seen[build_sight_key(row.key)], limit) for row in updates}
        missing_since = find_missing_since(before, list(released), released, now, fixed)
        since |= {(machine, name): moment for name, moment in missing_since.items()}
    answered = frozenset(assessed)
    unsaved = {key: moment for key, moment in since.items() if stored.get(key) != moment}
    return MissingFixes(since, unsaved, [key for key in stored if key not in since and key[0] in answered])


def _find_release(row: PendingRow, first_seen: datetime, limit: datetime) -> datetime:
    """Return the publication that the machine itself reports, or else the first sight.

    It counts for no other machine: it may be a lie. On Windows each revision has another: the earlier of both counts.
    """
    if row.published is None or row.published > limit:
        return first_seen
    return row.published if build_sight_key(row.key) == row.key else min(row.published, first_seen)
