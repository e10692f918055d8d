"""Plans that a person has to approve, and what was decided: in SQLite and PostgreSQL, beside the records of the runs.

On PostgreSQL times are the server's, as with leases: whoever approves may sit at another machine than the run.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tasks.protocols.clock import Clock, SystemClock
from tasks.records import schema
from tasks.records.storage.database import Database
from tasks.states import OperationState

_APPROVALS, _RUNS = schema.approvals, schema.runs
_UNFINISHED_STATES = (OperationState.NOT_STARTED.value, OperationState.IN_PROGRESS.value, OperationState.UNKNOWN.value)


class ApprovalDecision(StrEnum):
    """What became of a plan that was put up for approval."""

    WAITING = ""
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """A plan that was put up for approval.

    Attributes:
        digest: of the plan that was shown (see tasks/rules/runs/approval.py).
        expires_at: from when on nobody may approve it any more.
        decision: what was decided; WAITING while nobody has.
        who: whoever decided; "" when it expired.
    """

    run_id: str
    digest: str
    asked_at: datetime
    expires_at: datetime
    decision: ApprovalDecision = ApprovalDecision.WAITING
    who: str = ""
    remark: str = ""
    decided_at: datetime | None = None


class SqlApprovals:
    """Approvals in a database. For all threads of one process.

    Args:
        database: that of the records.
        clock: judges times instead of the database's own clock or, on SQLite, this machine's.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or (SystemClock() if database.is_sqlite else None)
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def request_approval(self, run_id: str, digest: str, seconds: float) -> Approval:
        """Put a plan up for approval for so many seconds, and return what stands.

        Asked again for the same plan, the first time stands, and so does what was decided. Another plan of the same
        run takes the place of one that nobody has decided on.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"ask for the approval of run {run_id}") as connection:
            now = self._read_time(connection)
            row = {
                "digest": digest,
                "asked_at": now,
                "expires_at": now + timedelta(seconds=seconds),
                "decision": ApprovalDecision.WAITING.value,
                "who": "",
                "remark": "",
                "decided_at": None,
            }
            insertion = self._insert(_APPROVALS).values(row | {"run_id": run_id})
            another = (_APPROVALS.c.decision == ApprovalDecision.WAITING.value) & (_APPROVALS.c.digest != digest)
            connection.execute(insertion.on_conflict_do_update(index_elements=["run_id"], set_=row, where=another))
            return _to_approval(connection.execute(select(_APPROVALS).where(_APPROVALS.c.run_id == run_id)).one())

    def decide(
        self, run_id: str, digest: str, decision: ApprovalDecision, who: str, remark: str = ""
    ) -> Approval | None:
        """Decide on a plan, and return what stands now; None when it was never put up for approval.

        Of several who decide at once exactly one does. What was decided before, another plan than this one, and a plan
        whose time is over stay as they are: compare what is returned with what was meant.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_write(f"decide on run {run_id}") as connection:
            now = self._read_time(connection)
            decided = {"decision": decision.value, "who": who, "remark": remark, "decided_at": now}
            mine = (
                _APPROVALS.c.run_id == run_id,
                _APPROVALS.c.digest == digest,
                _APPROVALS.c.decision == ApprovalDecision.WAITING.value,
            )
            in_time = () if decision is ApprovalDecision.EXPIRED else (_APPROVALS.c.expires_at > now,)
            connection.execute(update(_APPROVALS).where(*mine, *in_time).values(decided))
            row = connection.execute(select(_APPROVALS).where(_APPROVALS.c.run_id == run_id)).one_or_none()
        return _to_approval(row) if row is not None else None

    def find_approval(self, run_id: str) -> Approval | None:
        """Return what stands of a run's approval; None when it was never asked for.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_read("look at an approval") as connection:
            row = connection.execute(select(_APPROVALS).where(_APPROVALS.c.run_id == run_id)).one_or_none()
        return _to_approval(row) if row is not None else None

    def find_pending_approvals(self) -> tuple[Approval, ...]:
        """Return what somebody may still decide on, of runs that are not over; what expires first comes first.

        Raises:
            RecordsError: the database can't be asked.
        """
        query = (
            select(_APPROVALS)
            .join_from(_APPROVALS, _RUNS, _APPROVALS.c.run_id == _RUNS.c.id)
            .where(_APPROVALS.c.decision == ApprovalDecision.WAITING.value, _RUNS.c.state.in_(_UNFINISHED_STATES))
            .order_by(_APPROVALS.c.expires_at, _APPROVALS.c.run_id)
        )
        with self._database.begin_read("list what waits for approval") as connection:
            in_time = _APPROVALS.c.expires_at > self._read_time(connection)
            return tuple(_to_approval(row) for row in connection.execute(query.where(in_time)).all())

    def read_current_time(self) -> datetime:
        """Return the present moment by the clock that approvals are judged by.

        Raises:
            RecordsError: the database can't be asked.
        """
        with self._database.begin_read("ask for the time") as connection:
            return self._read_time(connection)

    def _read_time(self, connection: Connection) -> datetime:
        if self._clock is not None:
            return self._clock.now()
        # Not now(): that one stands still while a transaction waits for another one's row.
        moment: datetime = connection.execute(
            select(func.clock_timestamp(type_=_APPROVALS.c.expires_at.type))
        ).scalar_one()
        return moment


def _to_approval(row: Row[Any]) -> Approval:
    return Approval(
        run_id=row.run_id,
        digest=row.digest,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        decision=ApprovalDecision(row.decision),
        who=row.who,
        remark=row.remark,
        decided_at=row.decided_at,
    )
