"""Stores which run uses each window of a configuration, or why no run does, on SQLite and PostgreSQL."""

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
    """Window claims in a database. All threads of one process may share an object.

    Args:
        database: the database of the records.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def claim_window(
        self, configuration: str, starts_at: datetime, run_id: str, claimant: str, at: datetime
    ) -> WindowClaim:
        """Claim a window for a run, unless another run has it or it was cancelled.

        If several callers ask at the same time, exactly one gets the window. A window that is recorded as missed or
        frozen can be claimed: the caller has checked again.

        Args:
            configuration: the configuration of the window.
            starts_at: when the window opens.
            run_id: the run that wants the window.
            claimant: the id of the flow run that asks. The same flow run may ask again after its process died or an
                answer was lost; then it gets its earlier run id.
            at: the current time.

        Returns:
            The stored claim. It is the caller's own claim if the caller got the window.

        Raises:
            RecordsError: the database cannot be reached.
        """
        mine = WindowClaim(configuration, starts_at, WindowStatus.CLAIMED, run_id, claimant, at)
        with self._database.begin_write(f"reserve a window of {configuration}") as connection:
            # One statement decides, so only one caller can win.
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
        """Record why a window has no run. An existing claim or reason is not changed.

        Args:
            claim: the claim to store.
            instead_of: a stored claim whose run was never recorded. It is replaced if it has not changed meanwhile.

        Returns:
            The stored claim.

        Raises:
            RecordsError: the database cannot be reached.
        """
        with self._database.begin_write(f"record a window of {claim.configuration}") as connection:
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
        """Return the claim of one window; None if there is none.

        Raises:
            RecordsError: the database cannot be reached.
        """
        with self._database.begin_read("look at a window") as connection:
            found = connection.execute(
                select(_OCCURRENCES).where(*_match_window(configuration, starts_at))
            ).one_or_none()
        return _to_window_claim(found) if found is not None else None

    def find_claims_between(
        self, start: datetime, end: datetime, configuration: str | None = None
    ) -> tuple[WindowClaim, ...]:
        """Return the claims of windows that open from ``start`` (included) to ``end`` (excluded), oldest first.

        Raises:
            RecordsError: the database cannot be reached.
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
