"""Implements the Leases protocol on SQLite and PostgreSQL: run leases and stop requests.

On PostgreSQL the server's clock decides, because the clocks of controllers may differ. SQLite has no clock; all its
controllers run on one system and use that system's clock.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from tasks.domain.errors import RequestError, SealBroken
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.protocols.leases import LeaseHolder, LeaselessRun, LeaseRenewal, LeaseStatus, StopRequest
from tasks.domain.protocols.records import build_lease_lost_error
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.statements import UNFINISHED_STATES, insert_missing, list_shard_ids, read_shared_time, upsert_row
from tasks.records.storage.database import Database

_STOPPABLE_STATES = (OperationState.NOT_STARTED.value, OperationState.IN_PROGRESS.value)
_STOPPED = "stopped"
_FLEETPATCH = "fleetpatch"
"""Who asks a run to stop where no person is known."""
_LEASES, _STOP_REQUESTS, _RUNS = schema.leases, schema.stop_requests, schema.runs


class SqlLeases:
    """Run leases in a database. All threads of one process may share an object.

    Every method raises RecordsError if the database cannot be reached.

    ``clock``: replaces the default clock: the PostgreSQL server's clock, or this system's clock with SQLite.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._decisions = SqlDecisions(database)

    def acquire(self, run_id: str, holder: LeaseHolder, seconds: float) -> datetime:
        """Take the run lease for some seconds.

        This succeeds if the lease is free or expired, or if this holder already has it. If several holders ask at the
        same time, exactly one gets it.

        Raises:
            LeaseHeld: another holder has the lease. The error names the holder and the expiry.
            RecordsError: the database cannot be reached.
        """
        with self._database.begin_write(f"take the lease of run {run_id}") as connection:
            # Wait for the current write of the present holder: see require_lease.
            connection.execute(select(_LEASES.c.run_id).where(_LEASES.c.run_id == run_id).with_for_update())
            now = read_shared_time(connection, self._clock)
            row = {
                "run_id": run_id,
                "holder_id": holder.id,
                "host": holder.host,
                "pid": holder.pid,
                "username": holder.user,
                "until": now + timedelta(seconds=seconds),
                "given_back": False,
            }
            # One statement decides: the database checks the condition on the locked row, so only one holder can win.
            free = or_(_LEASES.c.until <= now, _LEASES.c.given_back, _LEASES.c.holder_id == holder.id)
            if upsert_row(connection, _LEASES, row, where=free):
                return now
            held = connection.execute(select(_LEASES).where(_LEASES.c.run_id == run_id)).one()
        raise LeaseHeld(run_id, holder=_to_holder(held), until=held.until)

    def require_known_stops(self) -> None:
        """Require that it can be said which runs were asked to stop. Raises SealBroken."""
        self._decisions.require_whole()

    def renew(self, run_id: str, holder: LeaseHolder, seconds: float) -> LeaseRenewal:
        """Extend the lease to that many seconds from now. Return whether it was kept, and any stop request.

        An expired lease can be renewed if no other holder took it.
        """
        removed = self._find_removed_stop(run_id)
        with self._database.begin_write(f"renew the lease of run {run_id}") as connection:
            until = read_shared_time(connection, self._clock) + timedelta(seconds=seconds)
            mine = (_LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back)
            is_kept = connection.execute(update(_LEASES).where(*mine).values(until=until)).rowcount == 1
            return LeaseRenewal(is_kept, _find_stop_request(connection, run_id) or removed)

    def release(self, run_id: str, holder: LeaseHolder) -> None:
        """End the lease now. Do nothing if this holder does not have it."""
        with self._database.begin_write(f"give the lease of run {run_id} back") as connection:
            mine = (_LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back)
            ended = {"given_back": True, "until": read_shared_time(connection, self._clock)}
            connection.execute(update(_LEASES).where(*mine).values(ended))

    def find_leaseless_runs(self) -> tuple[LeaselessRun, ...]:
        """Return the unfinished runs whose lease is not held, oldest first."""
        query = (
            select(_RUNS.c.id, _RUNS.c.started_at, _LEASES)
            .join_from(_RUNS, _LEASES, _RUNS.c.id == _LEASES.c.run_id, isouter=True)
            .where(_RUNS.c.state.in_(UNFINISHED_STATES))
        )
        with self._database.begin_read("look for abandoned runs") as connection:
            now = read_shared_time(connection, self._clock)
            over = or_(_LEASES.c.run_id.is_(None), _LEASES.c.given_back, _LEASES.c.until <= now)
            rows = connection.execute(query.where(over).order_by(_RUNS.c.started_at, _RUNS.c.id)).all()
        return tuple(
            LeaselessRun(row.id, None, row.started_at)
            if row.run_id is None
            else LeaselessRun(row.id, _to_holder(row), row.until)
            for row in rows
        )

    def request_stop(self, run_id: str, who: str, reason: str) -> StopRequest:
        """Ask a run to begin nothing more. The run's process reads the request when it renews the lease.

        The first request is kept; a second one changes nothing.

        Args:
            run_id: the complete id.
            who: the person who asks, for records and reports.
            reason: the person's reason.

        Returns:
            The stored request, which is the first one.

        Raises:
            RequestError: the run does not exist, or it is over.
            RecordsError: the database cannot be reached.
        """
        with self._database.begin_write(f"ask run {run_id} to stop") as connection:
            state = connection.execute(select(_RUNS.c.state).where(_RUNS.c.id == run_id)).scalar_one_or_none()
            if state is None:
                raise RequestError(f"there is no run {run_id!r}", hint="List the runs to see their ids.")
            if state not in _STOPPABLE_STATES:
                raise RequestError(f"run {run_id} can't be stopped: it is over ({state})")
            asked = {"run_id": run_id, "who": who, "reason": reason, "at": read_shared_time(connection, self._clock)}
            insert_missing(connection, _STOP_REQUESTS, asked)
            current = _find_stop_request(connection, run_id)
            shards = list_shard_ids(connection, run_id)  # begun or not: they may have no process that could tell them
            ended = select(_RUNS.c.id).where(_RUNS.c.id.in_(shards), _RUNS.c.state.not_in(_STOPPABLE_STATES))
            open_shards = sorted({*shards} - {*connection.execute(ended).scalars()})
            for shard in open_shards:
                insert_missing(connection, _STOP_REQUESTS, {**asked, "run_id": shard})
            self._decisions.append(connection, DecisionKind.STOP, _STOPPED, run_id, *open_shards)
        self._decisions.note_newest()
        assert current is not None  # noqa: S101 - for the type checker; the statement above stored it
        return current

    def find_lease(self, run_id: str) -> LeaseStatus | None:
        """Return the status of a run lease. None: no process took it, and there is no stop request."""
        removed = self._find_removed_stop(run_id)
        with self._database.begin_read("look at a lease") as connection:
            now = read_shared_time(connection, self._clock)
            row = connection.execute(select(_LEASES).where(_LEASES.c.run_id == run_id)).one_or_none()
            stop = _find_stop_request(connection, run_id)
            if stop is None and removed is not None:
                goes_on = select(_RUNS.c.id).where(_RUNS.c.id == run_id, _RUNS.c.state.in_(UNFINISHED_STATES))
                stop = removed if connection.execute(goes_on).first() is not None else None
        if row is not None:
            return LeaseStatus(run_id, _to_holder(row), not row.given_back and row.until > now, row.until, stop)
        return LeaseStatus(run_id, None, is_held=False, until=None, stop=stop) if stop else None

    def _find_removed_stop(self, run_id: str) -> StopRequest | None:
        """Return the stop of a run that was asked for, whether its row is still there or not; None if it was not.

        While that can't be said, runs begin nothing more.
        """
        try:
            decision = self._decisions.find(DecisionKind.STOP, run_id)
        except SealBroken as error:
            return StopRequest(_FLEETPATCH, f"{error.message}. {error.hint}", SystemClock().now())
        reason = "somebody has asked it to stop, and the request was removed from the database"
        return StopRequest(_FLEETPATCH, reason, decision.at) if decision is not None else None


def require_lease(connection: Connection, run_id: str, holder: LeaseHolder) -> None:
    """Require that the holder has the lease, and lock it until the transaction ends.

    The holder can still renew the lease. Another holder that takes the lease waits for the end of the transaction, at
    most LOCK_TIMEOUT_SECONDS: then PostgreSQL ends the transaction of a stopped process. On SQLite only one transaction
    writes at a time.

    Raises:
        RecordsError: another holder has the lease, or it was released.
    """
    mine = select(_LEASES.c.run_id).where(
        _LEASES.c.run_id == run_id, _LEASES.c.holder_id == holder.id, ~_LEASES.c.given_back
    )
    if connection.execute(mine.with_for_update(read=True, key_share=True)).first() is None:
        raise build_lease_lost_error()


def _to_holder(row: Row[Any]) -> LeaseHolder:
    return LeaseHolder(row.holder_id, row.host, row.pid, row.username)


def _find_stop_request(connection: Connection, run_id: str) -> StopRequest | None:
    row = connection.execute(select(_STOP_REQUESTS).where(_STOP_REQUESTS.c.run_id == run_id)).one_or_none()
    return StopRequest(row.who, row.reason, row.at) if row is not None else None
