"""The Leases protocol on SQLite and PostgreSQL, beside the records of the runs; and asking a run to stop.

On PostgreSQL times are the server's: the clocks of controllers may differ. SQLite has no clock of its own, and all its
controllers run on one machine.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.errors import LeaseHeld, RequestError
from tasks.protocols.clock import Clock, SystemClock
from tasks.protocols.leases import LeaseHolder, LeaselessRun, LeaseRenewal, LeaseStatus, StopRequest
from tasks.protocols.records import build_lease_lost_error
from tasks.records import schema
from tasks.records.storage.database import Database
from tasks.states import UNFINISHED_RUN_STATES, OperationState

_STOPPABLE_STATES = (OperationState.NOT_STARTED.value, OperationState.IN_PROGRESS.value)
UNFINISHED_STATES = tuple(state.value for state in UNFINISHED_RUN_STATES)
_LEASES, _STOP_REQUESTS, _RUNS = schema.leases, schema.stop_requests, schema.runs


class SqlLeases:
    """Leases in a database. For all threads of one process.

    Args:
        database: that of the records.
        clock: judges times instead of the database's own clock or, on SQLite, this machine's.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or (SystemClock() if database.is_sqlite else None)
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> None:
        """Take a run's lease for that long: when nobody has it, its time is over, or it is the holder's already.

        Of several who ask at once exactly one gets it.

        Raises:
            LeaseHeld: somebody else has it; the error says who and until when.
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"take the lease of run {run_id}") as connection:
            # Waits for what its holder is writing at this moment: see require_lease.
            connection.execute(select(_LEASES.c.run_id).where(_LEASES.c.run_id == run_id).with_for_update())
            now = self._read_time(connection)
            row = _build_lease_row(holder, now + timedelta(seconds=seconds))
            # One statement, so that the database itself lets one win: it judges the row as it is once it is locked.
            free = or_(_LEASES.c.until <= now, _LEASES.c.given_back, _LEASES.c.holder_id == holder.id)
            insertion = self._insert(_LEASES).values(row | {"run_id": run_id})
            insertion = insertion.on_conflict_do_update(index_elements=["run_id"], set_=row, where=free)
            if connection.execute(insertion.returning(_LEASES.c.run_id)).first() is not None:
                return
            held = connection.execute(select(_LEASES).where(_LEASES.c.run_id == run_id)).one()
        raise LeaseHeld(run_id, holder=_to_holder(held), until=held.until)

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        """Make the lease last that long from now, and hear whether somebody asked the run to stop.

        A lease whose time is over is renewed as well, as long as nobody took it meanwhile.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"renew the lease of run {run_id}") as connection:
            until = self._read_time(connection) + timedelta(seconds=seconds)
            mine = (_LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back)
            kept = connection.execute(update(_LEASES).where(*mine).values(until=until)).rowcount == 1
            return LeaseRenewal(kept, _find_stop_request(connection, run_id))

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        """End the lease now. Nothing happens when it isn't the holder's (any more).

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"give the lease of run {run_id} back") as connection:
            mine = (_LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back)
            ended = {"given_back": True, "until": self._read_time(connection)}
            connection.execute(update(_LEASES).where(*mine).values(ended))

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        """Return the runs without an end that nobody holds, oldest first.

        Raises:
            RecordsError: the database can't be asked.
        """
        query = (
            select(_RUNS.c.id, _RUNS.c.started_at, _LEASES)
            .join_from(_RUNS, _LEASES, _RUNS.c.id == _LEASES.c.run_id, isouter=True)
            .where(_RUNS.c.state.in_(UNFINISHED_STATES))
        )
        with self._database.begin_read("look for abandoned runs") as connection:
            now = self._read_time(connection)
            over = or_(_LEASES.c.run_id.is_(None), _LEASES.c.given_back, _LEASES.c.until <= now)
            found = connection.execute(query.where(over).order_by(_RUNS.c.started_at, _RUNS.c.id)).all()
        return tuple(
            LeaselessRun(row.id, None, row.started_at)
            if row.run_id is None
            else LeaselessRun(row.id, _to_holder(row), row.until)
            for row in found
        )

    def request_stop(self, run_id: str, who: str, reason: str) -> StopRequest:
        """Ask a run to begin nothing more; whoever carries it out hears of it when it renews its lease.

        Asked again, the first request stands.

        Args:
            run_id: the whole id.
            who: a person, for records and reports.
            reason: why, in their words.

        Returns:
            The request that stands.

        Raises:
            RequestError: there is no such run, or it is over.
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"ask run {run_id} to stop") as connection:
            state = connection.execute(select(_RUNS.c.state).where(_RUNS.c.id == run_id)).scalar_one_or_none()
            if state is None:
                raise RequestError(f"there is no run {run_id!r}", hint="List the runs to see their ids.")
            if state not in _STOPPABLE_STATES:
                raise RequestError(f"run {run_id} can't be stopped: it is over ({state})")
            asked = {"run_id": run_id, "who": who, "reason": reason, "at": self._read_time(connection)}
            connection.execute(
                self._insert(_STOP_REQUESTS).values(asked).on_conflict_do_nothing(index_elements=["run_id"])
            )
            current = _find_stop_request(connection, run_id)
        assert current is not None  # noqa: S101 - for the type checker; it was written a moment ago
        return current

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        """Return a look at a run's lease; None when it was never taken and nobody asked the run to stop.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_read("look at a lease") as connection:
            now = self._read_time(connection)
            row = connection.execute(select(_LEASES).where(_LEASES.c.run_id == run_id)).one_or_none()
            stop = _find_stop_request(connection, run_id)
        if row is not None:
            return LeaseStatus(run_id, _to_holder(row), not row.given_back and row.until > now, row.until, stop)
        return LeaseStatus(run_id, None, is_held=False, until=None, stop=stop) if stop else None

    def _read_time(self, connection: Connection) -> datetime:
        """Return the present moment by the clock that all holders share."""
        if self._clock is not None:
            return self._clock.now()
        # Not now(): that one stands still while a transaction waits for another one's row.
        moment: datetime = connection.execute(select(func.clock_timestamp(type_=_LEASES.c.until.type))).scalar_one()
        return moment


def require_lease(connection: Connection, run_id: str, holder: LeaseHolder) -> None:
    """See to it that the lease stays this holder's until the transaction ends.

    Renewing goes on beside it. Who takes the lease waits for it: at most for BUSY_SECONDS, after which PostgreSQL ends
    the transaction of a process that was stopped; on SQLite one writes at a time anyway.

    Raises:
        RecordsError: the lease is somebody else's, or was given back.
    """
    mine = select(_LEASES.c.run_id).where(
        _LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back
    )
    if connection.execute(mine.with_for_update(read=True, key_share=True)).first() is None:
        raise build_lease_lost_error()


def _build_lease_row(holder: LeaseHolder, until: datetime) -> dict[str, object]:
    return {
        "holder_id": holder.id,
        "host": holder.host,
        "pid": holder.pid,
        "username": holder.user,
        "until": until,
        "given_back": False,
    }


def _to_holder(row: Row[Any]) -> LeaseHolder:
    return LeaseHolder(row.holder_id, row.host, row.pid, row.username)


def _find_stop_request(connection: Connection, run_id: str) -> StopRequest | None:
    row = connection.execute(select(_STOP_REQUESTS).where(_STOP_REQUESTS.c.run_id == run_id)).one_or_none()
    return StopRequest(row.who, row.reason, row.at) if row is not None else None
