"""Which run each window of a configuration belongs to, or why it has none. On SQLite and PostgreSQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.records import schema
from tasks.records.database import Database
from tasks.rules.admission import Occurrence, Standing

_TABLE = schema.occurrences
_KEY = ["configuration", "starts_at"]
_FIRM = (Standing.RUN.value, Standing.CANCELLED.value)


class SqlOccurrences:
    """Occurrences in a database. For all threads of one process.

    Args:
        database: that of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.sqlite else postgresql.insert

    def claim(self, configuration: str, starts_at: datetime, run_id: str, claimant: str, at: datetime) -> Occurrence:
        """Let a window belong to a run, unless it belongs to another one or was called off.

        Of several who ask at once exactly one gets it. A window that was missed or frozen may be claimed all the same:
        whoever asks has looked again.

        Args:
            configuration: whose window it is.
            starts_at: when it opens.
            run_id: of the run that wants it.
            claimant: who wants it: a flow run's id. The same one may ask again, when its process died or an answer was
                lost, and is told the run id that it had.
            at: the present moment.

        Returns:
            What stands now: the caller's own claim when it got the window.

        Raises:
            RecordsError: the database can't be asked.
        """
        mine = Occurrence(configuration, starts_at, Standing.RUN, run_id, claimant, at)
        with self._database.writing(f"claim a window of {configuration}") as connection:
            # One statement, so that the database itself lets one win.
            row = _row(mine)
            taking = self._insert(_TABLE).values(row)
            free = ~_TABLE.c.what.in_(_FIRM)
            taking = taking.on_conflict_do_update(index_elements=_KEY, set_=_changes(row), where=free)
            connection.execute(taking)
            found = connection.execute(select(_TABLE).where(*_is(configuration, starts_at))).one()
        return _occurrence(found)

    def note(self, occurrence: Occurrence, *, instead_of: Occurrence | None = None) -> Occurrence:
        """Record why a window has no run. One that a run has keeps it, and the first word that was said stands.

        Args:
            occurrence: what is recorded.
            instead_of: a claim that came to nothing: it gives way, unless something else stands there by now.

        Returns:
            What stands now.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.writing(f"note a window of {occurrence.configuration}") as connection:
            row, key = _row(occurrence), _is(occurrence.configuration, occurrence.starts_at)
            connection.execute(self._insert(_TABLE).values(row).on_conflict_do_nothing(index_elements=_KEY))
            if instead_of is not None:
                same = (_TABLE.c.run_id == instead_of.run_id, _TABLE.c.what == instead_of.what.value)
                connection.execute(update(_TABLE).where(*key, *same).values(_changes(row)))
            found = connection.execute(select(_TABLE).where(*key)).one()
        return _occurrence(found)

    def find(self, configuration: str, starts_at: datetime) -> Occurrence | None:
        """Return what is known of one window; None when nothing is.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.reading("look at a window") as connection:
            found = connection.execute(select(_TABLE).where(*_is(configuration, starts_at))).one_or_none()
        return _occurrence(found) if found is not None else None

    def between(self, start: datetime, end: datetime, configuration: str | None = None) -> tuple[Occurrence, ...]:
        """Return what is known of the windows that open from ``start`` (included) to ``end``, oldest first.

        Raises:
            RecordsError: the database can't be asked.
        """
        query = select(_TABLE).where(_TABLE.c.starts_at >= start, _TABLE.c.starts_at < end)
        if configuration is not None:
            query = query.where(_TABLE.c.configuration == configuration)
        with self._database.reading("look at windows") as connection:
            rows = connection.execute(query.order_by(_TABLE.c.starts_at, _TABLE.c.configuration)).all()
        return tuple(_occurrence(row) for row in rows)


def _is(configuration: str, starts_at: datetime) -> tuple[Any, Any]:
    return (_TABLE.c.configuration == configuration, _TABLE.c.starts_at == starts_at)


def _row(occurrence: Occurrence) -> dict[str, Any]:
    return {
        "configuration": occurrence.configuration,
        "starts_at": occurrence.starts_at,
        "run_id": occurrence.run_id,
        "what": occurrence.what.value,
        "reason": occurrence.reason,
        "at": occurrence.at,
    }


def _changes(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _KEY}


def _occurrence(row: Row[Any]) -> Occurrence:
    return Occurrence(row.configuration, row.starts_at, Standing(row.what), row.run_id, row.reason, row.at)
