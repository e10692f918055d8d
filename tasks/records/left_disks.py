"""Finds the OS disks of before that upgrades have left: their machines failed, and were not put back."""

from collections import defaultdict
from datetime import datetime

from sqlalchemy import false, func, select

from inventory.data_class import dataclass
from tasks.domain.components import DISK_PREFIX
from tasks.domain.images import IMAGE_PREFIX
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import UpdateState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.statements import UNFINISHED_STATES
from tasks.records.storage.database import Database
from tasks.rules.components.tries import BAD_STATES
from tasks.rules.images.disks import is_settled

_JOURNAL, _RESULTS, _OUTCOMES, _RUNS = schema.journal, schema.update_results, schema.outcomes, schema.runs


@dataclass(frozen=True, slots=True)
class LeftDisk:
    """The OS disk that a machine had before an upgrade that failed: the way back, as far as the records know."""

    machine: str
    run_id: str
    order_id: str  # of the order that replaced it. Its provider knows it by that.
    replaced_at: datetime
    version: str  # the version that the machine was to get


def find_left_disks(database: Database, *, also_unfinished: bool = False) -> tuple[LeftDisk, ...]:
    """Return the disks of runs that have ended, or also of unfinished ones, that may be there, the oldest first.

    Only a result says that a machine needs its disk no more. A machine without one, which left the inventory during the
    run for example, may need it.

    Raises:
        RecordsError: the records can't be read.
    """
    begun = (_JOURNAL.c.act == ProviderAct.REPLACE_OS_DISK.value) & (_JOURNAL.c.mark == JournalMark.BEFORE.value)
    of_disk = _RESULTS.c.update_id.startswith(DISK_PREFIX)
    of_machine = (_OUTCOMES.c.run_id == _JOURNAL.c.run_id) & (_OUTCOMES.c.machine == _JOURNAL.c.machine)
    # few runs are of groups: the journals and results of all others are not read
    is_of_group = _RUNS.c.document.contains(f'"component":"{IMAGE_PREFIX}')
    runs = select(_RUNS.c.id).where(is_of_group)
    runs = runs if also_unfinished else runs.where(_RUNS.c.state.not_in(UNFINISHED_STATES))
    is_good = _OUTCOMES.c.state.not_in([state.value for state in BAD_STATES])
    has_succeeded = is_good & (_RESULTS.c.state == UpdateState.INSTALLED.value)
    # the provider has told the version of before at the end: the order was refused, or the disk was put back
    is_of_before = func.coalesce(_RESULTS.c.installed, "") == _RESULTS.c.version_after
    has_its_disk = (_RESULTS.c.state == UpdateState.FAILED.value) & is_of_before
    query = (
        select(_JOURNAL.c.document)
        .outerjoin(_OUTCOMES, of_machine)
        .outerjoin(_RESULTS, (_RESULTS.c.outcome == _OUTCOMES.c.number) & of_disk)
        .where(
            _JOURNAL.c.run_id.in_(runs),
            begun,
            ~func.coalesce(has_succeeded | has_its_disk, false()),  # NULL: not known
        )
    )
    rows = database.read_rows("look for OS disks of before", query.order_by(_JOURNAL.c.number))
    entries = [decode(JournalEntry, document) for (document,) in rows]
    ends = _read_deletions(database, sorted({entry.run_id for entry in entries}))
    return tuple(
        LeftDisk(entry.machine, entry.run_id, entry.key, entry.at, str(entry.detail.get("image", "")))
        for entry in entries
        if not is_settled(ends[entry.run_id, entry.machine])
    )


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
