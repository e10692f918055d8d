"""Finds the copies of machines that rehearsals have left: their runs are over, and none has recorded them as gone."""

from datetime import datetime

from sqlalchemy import select

from inventory.data_class import dataclass
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.records import schema
from tasks.records.encoding.codec import decode
from tasks.records.statements import UNFINISHED_STATES
from tasks.records.storage.database import Database
from tasks.rules.rehearsal import OVERLAY_ACT


@dataclass(frozen=True, slots=True)
class LeftCopy:
    """A copy of a machine that may exist, and that no run needs."""

    id: str  # what its provider calls it
    machine: str
    provider: str  # who has the machine, and what that calls it; "": the journal does not say
    run_id: str
    began_at: datetime


def find_left_copies(database: Database) -> tuple[LeftCopy, ...]:
    """Return the copies of runs that have ended which may exist, the oldest first.

    Raises:
        RecordsError: the journals can't be read.
    """
    journal, runs = schema.journal.c, schema.runs.c
    query = select(journal.document).join_from(schema.journal, schema.runs, runs.id == journal.run_id)
    query = query.where(journal.machine == "", journal.act == OVERLAY_ACT, runs.state.not_in(UNFINISHED_STATES))
    left: dict[tuple[str, str], LeftCopy] = {}
    with database.begin_read("look for copies of machines") as connection:
        documents = connection.scalars(query.order_by(journal.number)).all()
    for document in documents:
        entry = decode(JournalEntry, document)
        if entry.mark is JournalMark.BEFORE:
            machine, provider = (str(entry.detail.get(name, "")) for name in ("machine", "provider"))
            left[entry.run_id, entry.key] = LeftCopy(entry.key, machine, provider, entry.run_id, entry.at)
        else:
            left.pop((entry.run_id, entry.key), None)
    return tuple(left.values())
