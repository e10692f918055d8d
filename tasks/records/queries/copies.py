"""Finds the copies of machines that rehearsals have begun to make, and that no run has recorded as gone."""

from datetime import datetime

from sqlalchemy import select

from inventory.data_class import dataclass
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.storage.database import Database
from tasks.rules.rehearsal import OVERLAY_ACT


@dataclass(frozen=True, slots=True)
class LeftCopy:
    """A copy of a machine that may exist.

    Attributes:
        id: what its provider calls it.
        provider: who has the machine, and what that calls it; "": the journal does not say.
        is_over: its run has ended, and did not delete it.
    """

    id: str
    machine: str
    provider: str
    run_id: str
    began_at: datetime
    is_over: bool


def find_left_copies(database: Database) -> tuple[LeftCopy, ...]:
    """Return the copies that may exist, the oldest first.

    Raises:
        RecordsError: the journals can't be read.
    """
    journal, runs = schema.journal.c, schema.runs.c
    query = select(journal.document, runs.state).join_from(schema.journal, schema.runs, runs.id == journal.run_id)
    query = query.where(journal.machine == "", journal.act == OVERLAY_ACT).order_by(journal.number)
    left: dict[tuple[str, str], LeftCopy] = {}
    with database.begin_read("look for copies of machines") as connection:
        rows = connection.execute(query).tuples().all()
    for document, state in rows:
        entry = decode(JournalEntry, document)
        if entry.mark is JournalMark.BEFORE:
            machine, provider = (str(entry.detail.get(name, "")) for name in ("machine", "provider"))
            is_over = OperationState(state) not in UNFINISHED_RUN_STATES
            left[entry.run_id, entry.key] = LeftCopy(entry.key, machine, provider, entry.run_id, entry.at, is_over)
        else:
            left.pop((entry.run_id, entry.key), None)
    return tuple(left.values())
