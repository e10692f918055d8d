"""Finds the OS disks of before that upgrades have left: their machines failed, and were not put back."""

from collections import defaultdict
from datetime import datetime

from sqlalchemy import ColumnElement, and_, false, func, select

from inventory.data_class import dataclass
from tasks.domain.components import COMPONENT_PREFIX
from tasks.domain.images import IMAGE_PREFIX
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import UNFINISHED_RUN_STATES, UpdateState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.storage.database import Database
from tasks.rules.components.tries import BAD_STATES
from tasks.rules.images.disks import is_settled

_JOURNAL, _RESULTS, _OUTCOMES, _RUNS = schema.journal, schema.update_results, schema.outcomes, schema.runs


@dataclass(frozen=True, slots=True)
class LeftDisk:
    """The OS disk that a machine had before an upgrade that failed: the way back, as far as the records know.

    Attributes:
        order_id: of the order that replaced it. Its provider knows it by that.
        version: the version that the machine was to get.
    """

    machine: str
    run_id: str
    order_id: str
    replaced_at: datetime
    version: str


def find_left_disks(database: Database) -> tuple[LeftDisk, ...]:
    """Return the disks of runs that have ended, and that may be there, the oldest first.

    Raises:
        RecordsError: the records can't be read.
    """
    begun = (_JOURNAL.c.act == ProviderAct.REPLACE_OS_DISK.value) & (_JOURNAL.c.mark == JournalMark.BEFORE.value)
    query = (
        select(
            _RESULTS.c.machine,
            _RESULTS.c.run_id,
            _JOURNAL.c.key,
            func.min(_JOURNAL.c.at).label("at"),
            _RESULTS.c.available,
        )
        .join(_OUTCOMES, _OUTCOMES.c.number == _RESULTS.c.outcome)
        .join(_RUNS, and_(_RUNS.c.id == _RESULTS.c.run_id, _RUNS.c.kind == "patch"))
        .join(_JOURNAL, and_(_JOURNAL.c.run_id == _RUNS.c.id, _JOURNAL.c.machine == _RESULTS.c.machine, begun))
        .where(
            _RESULTS.c.update_id.startswith(f"{COMPONENT_PREFIX}{IMAGE_PREFIX}"),
            _RUNS.c.state.not_in([state.value for state in UNFINISHED_RUN_STATES]),
            ~(_has_succeeded() | _has_its_disk()),
        )
        .group_by(_RESULTS.c.machine, _RESULTS.c.run_id, _JOURNAL.c.key, _RESULTS.c.available)
    )
    rows = database.read_rows("look for OS disks of before", query.order_by("at"))
    ends = _read_deletions(database, [row.run_id for row in rows])
    disks = [LeftDisk(row.machine, row.run_id, row.key, row.at, row.available) for row in rows]
    return tuple(disk for disk in disks if not is_settled(ends[disk.run_id, disk.machine]))


def _has_succeeded() -> ColumnElement[bool]:
    is_good = _OUTCOMES.c.state.not_in([state.value for state in BAD_STATES])
    return is_good & (_RESULTS.c.state == UpdateState.INSTALLED.value)


def _has_its_disk() -> ColumnElement[bool]:
    """The provider has told the version of before at the end: the order was refused, or the disk was put back."""
    is_same = func.coalesce(_RESULTS.c.installed == _RESULTS.c.version_after, false())  # NULL: not known
    return (_RESULTS.c.state == UpdateState.FAILED.value) & is_same


def _read_deletions(database: Database, run_ids: list[str]) -> dict[tuple[str, str], list[object]]:
    """Return what became of deletions, by run and machine."""
    ends: dict[tuple[str, str], list[object]] = defaultdict(list)
    query = select(_JOURNAL.c.document).where(
        _JOURNAL.c.run_id.in_(run_ids),
        _JOURNAL.c.act == ProviderAct.DELETE_OS_DISK.value,
        _JOURNAL.c.mark == JournalMark.AFTER.value,
    )
    for (document,) in database.read_rows("look for deleted OS disks", query) if run_ids else ():
        entry = decode(JournalEntry, document)
        ends[entry.run_id, entry.machine].append(entry.detail.get("state"))
    return ends
