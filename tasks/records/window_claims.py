"""Stores which run uses each window of a configuration, or why no run does, on SQLite and PostgreSQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from tasks.domain.states import WindowStatus
from tasks.records import schema
from tasks.records.statements import build_row, insert_missing, upsert_row
from tasks.records.storage.database import Database
from tasks.rules.timing.admission import WindowClaim

_OCCURRENCES = schema.occurrences
_FINAL_STATUSES = (WindowStatus.CLAIMED.value, WindowStatus.CANCELLED.value)


class SqlWindowClaims:
    """Window claims in a database. All threads of one process may share an object."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """
        mine = WindowClaim(configuration, starts_at, WindowStatus.CLAIMED, run_id, claimant, at)
        with self._database.begin_write(f"reserve a window of {configuration}") as connection:
            # One statement decides, so only one caller can win.
            upsert_row(connection, _OCCURRENCES, _build_row(mine), where=~_OCCURRENCES.c.what.in_(_FINAL_STATUSES))
            stored = connection.execute(select(_OCCURRENCES).where(*_match_window(configuration, starts_at))).one()
        return _to_window_claim(stored)

    def record_window_without_run(self, claim: WindowClaim, *, instead_of: WindowClaim | None = None) -> WindowClaim:
        """Record why a window has no run. An existing claim or reason is not changed.

        ``instead_of``: a stored claim whose run was never recorded. It is replaced if it has not changed meanwhile.

        Returns:
            The stored claim.
        """
        with self._database.begin_write(f"record a window of {claim.configuration}") as connection:
            row, key = _build_row(claim), _match_window(claim.configuration, claim.starts_at)
            insert_missing(connection, _OCCURRENCES, row)
            if instead_of is not None:
                same = (_OCCURRENCES.c.run_id == instead_of.run_id, _OCCURRENCES.c.what == instead_of.status.value)
                connection.execute(update(_OCCURRENCES).where(*key, *same).values(row))
            stored = connection.execute(select(_OCCURRENCES).where(*key)).one()
        return _to_window_claim(stored)

    def find_claims_between(
        self, start: datetime, end: datetime, configuration: str | None = None
    ) -> tuple[WindowClaim, ...]:
        """Return the claims of windows that open from ``start`` (included) to ``end`` (excluded), oldest first."""
        query = select(_OCCURRENCES).where(_OCCURRENCES.c.starts_at >= start, _OCCURRENCES.c.starts_at < end)
        if configuration is not None:
            query = query.where(_OCCURRENCES.c.configuration == configuration)
        query = query.order_by(_OCCURRENCES.c.starts_at, _OCCURRENCES.c.configuration)
        return tuple(map(_to_window_claim, self._database.read_rows("look at windows", query)))


def _match_window(configuration: str, starts_at: datetime) -> tuple[Any, Any]:
    return (_OCCURRENCES.c.configuration == configuration, _OCCURRENCES.c.starts_at == starts_at)


def _build_row(claim: WindowClaim) -> dict[str, Any]:
    return build_row(_OCCURRENCES, claim, what=claim.status.value, at=claim.recorded_at)


def _to_window_claim(row: Row[Any]) -> WindowClaim:
    return WindowClaim(row.configuration, row.starts_at, WindowStatus(row.what), row.run_id, row.reason, row.at)
