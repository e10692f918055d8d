"""Which run each window of a configuration belongs to, or why it has none. On SQLite and PostgreSQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.records import schema
from tasks.records.storage.database import Database
from tasks.rules.timing.admission import WindowClaim, WindowStatus

_OCCURRENCES = schema.occurrences
_KEY_COLUMNS = ["configuration", "starts_at"]
_FINAL_STATUSES = (WindowStatus.CLAIMED.value, WindowStatus.CANCELLED.value)


class SqlWindowClaims:
    """Claims of windows in a database. For all threads of one process.

    Args:
        database: that of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def claim_window(
        self, configuration: str, starts_at: datetime, run_id: str, claimant: str, at: datetime
    ) -> WindowClaim:
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
        mine = WindowClaim(configuration, starts_at, WindowStatus.CLAIMED, run_id, claimant, at)
        with self._database.begin_write(f"claim a window of {configuration}") as connection:
            # One statement, so that the database itself lets one win.
            row = _build_row(mine)
            insertion = self._insert(_OCCURRENCES).values(row)
            free = ~_OCCURRENCES.c.what.in_(_FINAL_STATUSES)
            insertion = insertion.on_conflict_do_update(
                index_elements=_KEY_COLUMNS, set_=_select_changes(row), where=free
            )
            connection.execute(insertion)
            found = connection.execute(select(_OCCURRENCES).where(*_match_window(configuration, starts_at))).one()
        return _to_window_claim(found)

    def record_window_without_run(self, claim: WindowClaim, *, instead_of: WindowClaim | None = None) -> WindowClaim:
        """Record why a window has no run. One that a run has keeps it, and the first word that was said stands.

        Args:
            claim: what is recorded.
            instead_of: a claim that came to nothing: it gives way, unless something else stands there by now.

        Returns:
            What stands now.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"note a window of {claim.configuration}") as connection:
            row, key = _build_row(claim), _match_window(claim.configuration, claim.starts_at)
            connection.execute(
                self._insert(_OCCURRENCES).values(row).on_conflict_do_nothing(index_elements=_KEY_COLUMNS)
            )
            if instead_of is not None:
                same = (_OCCURRENCES.c.run_id == instead_of.run_id, _OCCURRENCES.c.what == instead_of.status.value)
                connection.execute(update(_OCCURRENCES).where(*key, *same).values(_select_changes(row)))
            found = connection.execute(select(_OCCURRENCES).where(*key)).one()
        return _to_window_claim(found)

    def find_claim(self, configuration: str, starts_at: datetime) -> WindowClaim | None:
        """Return what is known of one window; None when nothing is.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_read("look at a window") as connection:
            found = connection.execute(
                select(_OCCURRENCES).where(*_match_window(configuration, starts_at))
            ).one_or_none()
        return _to_window_claim(found) if found is not None else None

    def find_claims_between(
        self, start: datetime, end: datetime, configuration: str | None = None
    ) -> tuple[WindowClaim, ...]:
        """Return what is known of the windows that open from ``start`` (included) to ``end``, oldest first.

        Raises:
            RecordsError: the database can't be asked.
        """
        query = select(_OCCURRENCES).where(_OCCURRENCES.c.starts_at >= start, _OCCURRENCES.c.starts_at < end)
        if configuration is not None:
            query = query.where(_OCCURRENCES.c.configuration == configuration)
        with self._database.begin_read("look at windows") as connection:
            rows = connection.execute(query.order_by(_OCCURRENCES.c.starts_at, _OCCURRENCES.c.configuration)).all()
        return tuple(_to_window_claim(row) for row in rows)


def _match_window(configuration: str, starts_at: datetime) -> tuple[Any, Any]:
    return (_OCCURRENCES.c.configuration == configuration, _OCCURRENCES.c.starts_at == starts_at)


def _build_row(claim: WindowClaim) -> dict[str, Any]:
    return {
        "configuration": claim.configuration,
        "starts_at": claim.starts_at,
        "run_id": claim.run_id,
        "what": claim.status.value,
        "reason": claim.reason,
        "at": claim.recorded_at,
    }


def _select_changes(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _KEY_COLUMNS}


def _to_window_claim(row: Row[Any]) -> WindowClaim:
    return WindowClaim(row.configuration, row.starts_at, WindowStatus(row.what), row.run_id, row.reason, row.at)
