"""Stores approvals and their decisions on SQLite and PostgreSQL, and reads the last decisions with their runs.

On PostgreSQL the server's clock decides, as for run leases: a person may approve on another system than the run's.
"""

from dataclasses import field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from inventory.data_class import dataclass
from tasks.domain.errors import SealBroken
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock
from tasks.domain.rows import copy_row
from tasks.domain.rows.approvals import ApprovalRow
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.decisions import DecisionKind, SqlDecisions
from tasks.records.encoding.codec import decode
from tasks.records.schema import approvals, runs
from tasks.records.seals import DECISION_KEY, Seals
from tasks.records.statements import build_row, read_shared_time, upsert_row
from tasks.records.storage.database import Database

_APPROVALS, _RUNS = schema.approvals, schema.runs
_UNFINISHED_STATES = (OperationState.NOT_STARTED.value, OperationState.IN_PROGRESS.value, OperationState.UNKNOWN.value)


class ApprovalDecision(StrEnum):
    """The decision of an approval. WAITING: there is no decision yet."""

    WAITING = ""
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval of a run's plan."""

    run_id: str
    digest: str  # the digest of the plan that was shown (see tasks/rules/runs/approval.py).
    asked_at: datetime
    expires_at: datetime  # from this time on, the plan cannot be approved
    decision: ApprovalDecision = ApprovalDecision.WAITING  # the decision; WAITING if there is none yet
    who: str = ""  # the person who decided; "" if the approval expired
    remark: str = ""
    decided_at: datetime | None = None
    # Shows that a process with the key of decisions wrote it. ``require_sealed`` checks it.
    seal: str | None = field(default=None, compare=False)


def build_approval_row(approval: Approval) -> ApprovalRow:
    """Return the row of an approval."""
    return copy_row(
        ApprovalRow, approval, decision=approval.decision.value or "waiting", decided_by=approval.who or None
    )


class SqlApprovals:
    """Approvals in a database. All threads of one process may share an object.

    ``clock``: replaces the default clock: the PostgreSQL server's clock, or this system's clock with SQLite.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock
        self._seals = Seals(DECISION_KEY, database.fleet)
        self._decisions = SqlDecisions(database)

    def request_approval(self, run_id: str, digest: str, seconds: float) -> Approval:
        """Ask for the approval of a plan, which expires after some seconds. Return the stored approval.

        A second request for the same plan changes nothing: the first expiry and the decision are kept. A new plan of
        the same run replaces a plan that has no decision yet.
        """
        with self._database.begin_write(f"ask for the approval of run {run_id}") as connection:
            now = read_shared_time(connection, self._clock)
            asked = Approval(run_id, digest, now, now + timedelta(seconds=seconds))
            row = self._seals.seal(_APPROVALS, build_row(_APPROVALS, asked))
            another = (_APPROVALS.c.decision == ApprovalDecision.WAITING.value) & (_APPROVALS.c.digest != digest)
            upsert_row(connection, _APPROVALS, row, where=another)
            return _to_approval(connection.execute(select(_APPROVALS).where(_APPROVALS.c.run_id == run_id)).one())

    def decide(
        self, run_id: str, digest: str, decision: ApprovalDecision, who: str, remark: str = ""
    ) -> Approval | None:
        """Store a decision on a plan. Return the stored approval; None if the run has no approval.

        If several persons decide at the same time, exactly one decision is stored. Nothing is stored if there is a
        decision already, if the digest is of another plan, or if the approval expired (only EXPIRED can be stored
        then). The caller must compare the returned approval with its own decision.

        Raises:
            RecordsError: the database cannot be reached.
            SealBroken: the request for the approval was changed in the database. It can still be rejected.
            SealKeyMissing: this process lacks the key of decisions with which the run asked. It can still be rejected.
        """
        with self._database.begin_write(f"decide on run {run_id}") as connection:
            now = read_shared_time(connection, self._clock)
            waiting = _read_approval(connection, run_id, lock=True)  # others who decide now come after this one
            if waiting is None:
                return None
            if decision is ApprovalDecision.APPROVED and waiting.decision is ApprovalDecision.WAITING:
                self.require_sealed(waiting)
            decided: dict[str, Any] = {"decision": decision.value, "who": who, "remark": remark, "decided_at": now}
            # A rejection needs no seal. Where the key is missing, a new one would fit nothing.
            can_seal = self._seals.has_key(waiting.seal)
            decided["seal"] = (
                self._seals.seal(_APPROVALS, build_row(_APPROVALS, waiting) | decided)["seal"] if can_seal else None
            )
            mine = (
                _APPROVALS.c.run_id == run_id,
                _APPROVALS.c.digest == digest,
                _APPROVALS.c.decision == ApprovalDecision.WAITING.value,
            )
            in_time = () if decision is ApprovalDecision.EXPIRED else (_APPROVALS.c.expires_at > now,)
            stored = connection.execute(update(_APPROVALS).where(*mine, *in_time).values(decided)).rowcount == 1
            if stored and self._seals.read_key_ids():
                self._decisions.append(connection, DecisionKind.APPROVAL, decision.value, run_id)
            recorded = _read_approval(connection, run_id)
        if stored:
            self._decisions.note_newest()
        return recorded

    def require_sealed(self, approval: Approval) -> None:
        """Require that a process with the key of decisions wrote an approval, and that it is the newest state.

        Raises:
            SealBroken: something else wrote it, or put an earlier state of it back.
            SealKeyMissing: it was sealed with a key that this process doesn't have.
            RecordsError: the key can't be read.
        """
        subject = f"the approval of run {approval.run_id}"
        self._seals.check(_APPROVALS, build_row(_APPROVALS, approval), subject)
        decided = self._decisions.find(DecisionKind.APPROVAL, approval.run_id)
        if decided is not None and decided.text != approval.decision.value:
            raise SealBroken(
                f"{subject} was {decided.text} at {decided.at:%Y-%m-%d %H:%M} UTC: an earlier state of it was put back",
                hint="Nothing of it is done. Find out who can write the database. Start a new run.",
            )

    def find_approval(self, run_id: str) -> Approval | None:
        """Return the approval of a run; None if nothing asked for one."""
        with self._database.begin_read("look at an approval") as connection:
            return _read_approval(connection, run_id)

    def find_pending_approvals(self) -> tuple[Approval, ...]:
        """Return the approvals of unfinished runs that wait for a decision, the one that expires first at the start."""
        query = (
            select(_APPROVALS)
            .join_from(_APPROVALS, _RUNS, _APPROVALS.c.run_id == _RUNS.c.id)
            .where(_APPROVALS.c.decision == ApprovalDecision.WAITING.value, _RUNS.c.state.in_(_UNFINISHED_STATES))
            .order_by(_APPROVALS.c.expires_at, _APPROVALS.c.run_id)
        )
        with self._database.begin_read("list what waits for approval") as connection:
            in_time = _APPROVALS.c.expires_at > read_shared_time(connection, self._clock)
            return tuple(_to_approval(row) for row in connection.execute(query.where(in_time)).all())

    def read_current_time(self) -> datetime:
        """Return the current time of the clock that decides when approvals expire."""
        with self._database.begin_read("ask for the time") as connection:
            return read_shared_time(connection, self._clock)


def _read_approval(connection: Connection, run_id: str, *, lock: bool = False) -> Approval | None:
    query = select(_APPROVALS).where(_APPROVALS.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return _to_approval(row) if row is not None else None


def _to_approval(row: Row[Any], decision: ApprovalDecision | None = None) -> Approval:
    values = {field.name: getattr(row, field.name) for field in fields(Approval)}
    return Approval(**values | {"decision": decision or ApprovalDecision(row.decision)})


@dataclass(frozen=True, slots=True)
class DecidedApproval:
    """An approval that nobody can decide any more, and its run. ``run`` is None if its row was deleted."""

    approval: Approval
    run: RunInfo | None


def read_decided_approvals(database: Database, now: datetime, limit: int = 50) -> tuple[DecidedApproval, ...]:
    """Return the newest approvals with a decision, and those that expired without one, newest first.

    ``now``: the time of the clock that decides when approvals expire.
    """
    table = approvals
    moment = func.coalesce(table.c.decided_at, table.c.expires_at)
    query = (
        select(table, runs.c.document)
        .join_from(table, runs, table.c.run_id == runs.c.id, isouter=True)
        .where(or_(table.c.decision != ApprovalDecision.WAITING.value, table.c.expires_at <= now))
        .order_by(moment.desc(), table.c.run_id)
        .limit(limit)
    )
    return tuple(
        DecidedApproval(
            _to_approval(row, ApprovalDecision(row.decision or ApprovalDecision.EXPIRED)),
            decode(RunInfo, row.document) if row.document is not None else None,
        )
        for row in database.read_rows("list the last decisions", query)
    )
