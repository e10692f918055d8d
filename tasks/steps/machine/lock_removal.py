"""Reads the machine lock of any run, and removes it: when a person says so, or for the undo of that run."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import BaseModel, Field, ValidationError

from inventory.data_class import dataclass
from tasks.domain.errors import DeadlineExceeded, ManagerBusy, ProtocolViolation, RequestError, ScriptFailed
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord, Transport
from tasks.domain.states import FindingLevel
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.machine_lock import (
    ATTEMPT_ACT,
    LOCK_LEFT_ACT,
    LockResult,
    acquire_lock,
    split_lock_holder,
)

SCRIPT_TIMEOUT_SECONDS = 60.0
_MAX_EPOCH_SECONDS = 1e11  # seconds since 1970; in the year 5138


class _LockRecord(BaseModel):
    run: str
    by: str
    until: float = Field(ge=0, lt=_MAX_EPOCH_SECONDS)
    attempt: int = Field(ge=0)
    job: str
    label: str
    began: float | None = Field(default=None, ge=0, lt=_MAX_EPOCH_SECONDS)
    now: float = Field(gt=0, lt=_MAX_EPOCH_SECONDS)


@dataclass(frozen=True, slots=True)
class LockStatus:
    """The machine lock of one machine, when it was read.

    Attributes:
        run_id: the run that has the lock, or "".
        expires_at: when the lock expires, by our clock. None: no run has it.
        is_expired: whether it has expired. Orders of its run stay valid until another run takes the lock.
        job_id: the job that runs on the machine, or "".
        job_started_at: by our clock. None: no job runs.
        raw_fields: run, attempt and until as the machine wrote them: only this exact lock is removed.
    """

    machine: str
    run_id: str
    started_by: str
    expires_at: datetime | None
    is_expired: bool
    job_id: str
    job_name: str
    job_started_at: datetime | None
    raw_fields: tuple[str, str, str]


def read_lock_status(machine: str, transport: Transport, clock: Clock) -> LockStatus:
    """Return the machine lock of a machine. Changes nothing.

    Raises:
        TransportError: the machine could not be asked.
        ProtocolViolation: its answer is not valid.
    """
    asked = clock.now()
    records = _run_lock_script(transport, clock, {})
    answered = clock.now()
    locks = [record for record in records if record.get("kind") == "lock"]
    try:
        lock_record = _LockRecord.model_validate(locks[0] if locks else {})
    except ValidationError as error:
        raise ProtocolViolation(
            f"what the machine says of its lock can't be understood: {error}", machine=machine
        ) from error
    skew_seconds = _find_clock_skew(asked, answered, lock_record.now)

    def to_controller_time(moment: float) -> datetime:
        return datetime.fromtimestamp(moment - skew_seconds, UTC)

    return LockStatus(
        machine=machine,
        run_id=split_lock_holder(lock_record.run)[0],
        started_by=lock_record.by,
        expires_at=to_controller_time(lock_record.until) if lock_record.run else None,
        is_expired=lock_record.until <= lock_record.now,
        job_id=lock_record.job,
        job_name=lock_record.label,
        job_started_at=to_controller_time(lock_record.began) if lock_record.job and lock_record.began else None,
        raw_fields=(lock_record.run, str(lock_record.attempt), f"{lock_record.until:.0f}"),
    )


def _find_clock_skew(asked: datetime, answered: datetime, machine_now: float) -> int:
    """Return the machine's clock minus ours, in whole seconds; 0 if they may be equal.

    The machine reads its clock between question and answer, and tells the whole seconds.
    """
    earliest, latest = asked.timestamp() - 1, answered.timestamp()
    if earliest < machine_now <= latest:
        return 0
    return round(machine_now - (earliest + latest) / 2)


def remove_lock(lock: LockStatus, by: str, transport: Transport, clock: Clock) -> None:
    """Remove a lock that was read before. After that, the machine refuses orders of the run that had it.

    Raises:
        ManagerBusy: a job runs there.
        RequestError: the lock is not the one that was read.
        ScriptFailed: the machine can't write it.
        TransportError: the machine could not be asked: the lock may have been removed.
    """
    run, attempt, until = lock.raw_fields
    params = {"lift": "yes", "by": by, "run": run, "attempt": attempt, "until": until}
    records = _run_lock_script(transport, clock, params)
    last = records[-1] if records else {}
    if last.get("kind") == "lifted":
        return
    if last.get("kind") == "changed":
        raise RequestError(
            "the lock changed in the meantime, so it was not removed",
            machine=lock.machine,
            hint="Run the command again: it shows which run has the lock now.",
        )
    job = next((record.get("job") for record in records if record.get("kind") == "lock"), "")
    if job:
        raise build_lock_busy_error(lock.machine, str(job))
    reason = last.get("why") or "the machine gave no answer"
    if last.get("about") == "unsure":
        raise DeadlineExceeded(f"the lock was not removed: {reason}", machine=lock.machine, hint="Try again.")
    hint = "Look at the room on its disk, and whether it is mounted read-only."
    raise ScriptFailed(f"the lock can't be removed: {reason}", exit_code=0, machine=lock.machine, hint=hint)


def remove_undone_lock(context: MachineContext) -> str:
    """Remove the lock of the run that this run takes back, or of its shard. Return that id; "": it had no lock here.

    Only a run that is over is taken back. Its lock comes back with the snapshot that it took under it. The lock of any
    other run stays.

    Raises:
        ManagerBusy, RequestError, ScriptFailed, TransportError: see ``read_lock_status`` and ``remove_lock``.
    """
    order = context.options.undo_order
    if order is None:
        return ""
    lock, snapshot = read_lock_status(context.name, context.transport, context.clock), order.snapshots.get(context.name)
    over = {order.run_id, *([snapshot.row.run_id] if snapshot is not None else ())}  # a shard of it may have taken it
    if lock.run_id not in over:
        return ""
    remove_lock(lock, f"run {context.run.id}, which takes it back", context.transport, context.clock)
    return lock.run_id


def _remove_left_lock(context: MachineContext) -> str:
    """Remove the lock of a run whose last attempt is over, by its journal. Return its id; "": it may not be over."""
    lock = read_lock_status(context.name, context.transport, context.clock)
    entries = context.records.read_entries(lock.run_id, context.name) if lock.run_id else ()
    attempts, left = ([e.key for e in entries if e.act == act] for act in (ATTEMPT_ACT, LOCK_LEFT_ACT))
    # by number: an earlier attempt may write its end late, and records that were restored lack later attempts
    if str(len(attempts)) not in left or int(lock.raw_fields[1]) > len(attempts):
        return ""
    remove_lock(lock, f"run {context.run.id}, as that run is over", context.transport, context.clock)
    return lock.run_id


def lock_machine(context: MachineContext) -> LockResult:
    """Lock the machine like ``acquire_lock``. The lock of a run that is over, or that this run takes back, goes first.

    Raises:
        RecordsError: the attempt's number could not be read.
        TransportError: the machine could not be asked.
    """
    result = acquire_lock(context)
    if not result.is_held_elsewhere:
        return result
    try:
        undone = remove_undone_lock(context)
        over = undone or _remove_left_lock(context)
        result = acquire_lock(context) if over else result
    except (ManagerBusy, RequestError, ScriptFailed, ProtocolViolation) as error:
        finding = replace(result.finding, message=f"{result.finding.message}; {error.message}")
        return replace(result, finding=finding)
    if not over or result.finding.level is FindingLevel.BLOCK:
        return result
    reason = "which this run takes back" if undone else "which is over, and could not release it"
    message = f"taken over from run {over}, {reason}"
    return replace(result, finding=replace(result.finding, message=message))


def build_lock_busy_error(machine: str, job_id: str) -> ManagerBusy:
    """Return the error for a lock that is not removed because a job runs."""
    return ManagerBusy(
        f"the lock is not removed: job {job_id} is running",
        machine=machine,
        hint="Wait for the end of that job. It is never ended from outside.",
    )


def _run_lock_script(transport: Transport, clock: Clock, params: dict[str, str]) -> Sequence[ScriptRecord]:
    script = Script("lock", params, read_only=not params)
    return transport.run_script(script, deadline=Deadline.after(clock, SCRIPT_TIMEOUT_SECONDS)).records
