"""Stores what each machine of a run does now, for the pages. Nothing depends on it: it may be lost at any time."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, delete, select

from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import ProgressRow
from tasks.records import schema
from tasks.records.page_schema import run_progress
from tasks.records.statements import build_upsert
from tasks.records.storage.database import Database

_BATCH_SIZE = 500
"""Rows of one transaction: on SQLite, journal entries wait for its end."""


class SqlRunProgress:
    """Implements the ProgressStore protocol on SQLite and PostgreSQL. All threads of a process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run_id: str, rows: Sequence[ProgressRow], holder: LeaseHolder | None = None) -> bool:
        """Store or replace rows. Return False, and store nothing, if another process has the run.

        Args:
            run_id: the complete id.
            rows: not more than one for a machine.
            holder: this process, if the run has a lease.
        """
        statement = build_upsert(self._database.engine.dialect.name, run_progress, ("run_id", "machine"))
        for start in range(0, len(rows), _BATCH_SIZE):
            values = [{"run_id": run_id, **asdict(row)} for row in rows[start : start + _BATCH_SIZE]]
            with self._database.begin_write("save the progress of a run") as connection:
                if not _holds_lease(connection, run_id, holder):
                    return False
                connection.execute(statement, values)
        return True

    def delete(self, run_id: str, holder: LeaseHolder | None = None) -> bool:
        """Delete all rows of a run. Return False, and delete nothing, if another process has the run."""
        with self._database.begin_write("delete the progress of a run") as connection:
            if not _holds_lease(connection, run_id, holder):
                return False
            connection.execute(delete(run_progress).where(run_progress.c.run_id == run_id))
        return True


def _holds_lease(connection: Connection, run_id: str, holder: LeaseHolder | None) -> bool:
    """Return whether the run is this process's own. The row is not locked: a late row does no harm."""
    if holder is None:
        return True
    table = schema.leases
    query = select(table.c.holder_id).where(table.c.run_id == run_id, ~table.c.given_back)
    return connection.execute(query).scalar_one_or_none() == holder.id


_PROGRESS_COLUMNS = [run_progress.columns[each.name] for each in fields(ProgressRow)]


def read_run_progress(database: Database, run_id: str) -> dict[str, ProgressRow]:
    """Return what the machines of an unfinished run do, by name, in the order of the run; "" is the run itself."""
    table = run_progress
    query = select(*_PROGRESS_COLUMNS).where(table.c.run_id == run_id).order_by(table.c.position, table.c.machine)
    return {row[0]: ProgressRow(*row) for row in database.read_rows("read the progress of a run", query)}
