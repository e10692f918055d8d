"""The lock that a run has on a machine, for people: whose it is, what runs there, and to lift it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import DeadlineExceeded, ManagerBusy, ProtocolViolation, RequestError, ScriptFailed
from tasks.seams.clock import Clock, Deadline
from tasks.seams.transport import Script, ScriptRecord, Transport

ASK_SECONDS = 60.0
_LATEST = 1e11  # seconds since 1970, in the year 5138


class _Lock(BaseModel):
    run: str
    by: str
    until: float = Field(ge=0, lt=_LATEST)
    attempt: int = Field(ge=0)
    job: str
    label: str
    began: float | None = Field(default=None, ge=0, lt=_LATEST)
    now: float = Field(gt=0, lt=_LATEST)


@dataclass(frozen=True, slots=True)
class MachineLock:
    """The lock of one machine, as it was seen.

    Attributes:
        machine: its name.
        run_id: the run that has the lock, or "" when none has it.
        by: who started that run.
        until: when the lock ends by itself, by our clock; None when no run has it.
        is_over: whether that moment has passed; the lock still keeps its run's orders valid until another run takes it.
        job_id: the job that runs on the machine, or "".
        job_name: what that job does ("apt_job").
        job_began_at: by our clock; None when no job runs.
        seen: run, attempt and until as the machine wrote them: only this very lock is lifted.
    """

    machine: str
    run_id: str
    by: str
    until: datetime | None
    is_over: bool
    job_id: str
    job_name: str
    job_began_at: datetime | None
    seen: tuple[str, str, str]


def look_at_lock(machine: str, transport: Transport, clock: Clock) -> MachineLock:
    """Return the lock of a machine. Changes nothing.

    Raises:
        TransportError: the machine could not be asked.
        ProtocolViolation: its answer makes no sense.
    """
    records = _ask(transport, clock, {})
    found = [record for record in records if record.get("kind") == "lock"]
    try:
        told = _Lock.model_validate(found[0] if found else {})
    except ValidationError as error:
        raise ProtocolViolation(
            f"what the machine says of its lock makes no sense: {error}", machine=machine
        ) from error
    now = clock.now()

    def by_our_clock(moment: float) -> datetime:
        return now + timedelta(seconds=moment - told.now)

    return MachineLock(
        machine=machine,
        run_id=told.run,
        by=told.by,
        until=by_our_clock(told.until) if told.run else None,
        is_over=told.until <= told.now,
        job_id=told.job,
        job_name=told.label,
        job_began_at=by_our_clock(told.began) if told.job and told.began else None,
        seen=(told.run, str(told.attempt), f"{told.until:.0f}"),
    )


def lift_lock(lock: MachineLock, by: str, transport: Transport, clock: Clock) -> None:
    """Lift a lock that was seen before. The run that has it gets no more orders through to the machine.

    Raises:
        ManagerBusy: a job runs there.
        RequestError: it is not the lock that was seen.
        ScriptFailed: the machine can't write it.
        TransportError: the machine could not be asked: the lock may have been lifted.
    """
    run, attempt, until = lock.seen
    params = {"lift": "yes", "by": by, "run": run, "attempt": attempt, "until": until}
    records = _ask(transport, clock, params)
    last = records[-1] if records else {}
    if last.get("kind") == "lifted":
        return
    if last.get("kind") == "changed":
        raise RequestError(
            "the lock was taken or given back meanwhile, so nothing was lifted",
            machine=lock.machine,
            hint="Look again: the same command shows whose it is now.",
        )
    job = next((record.get("job") for record in records if record.get("kind") == "lock"), "")
    if job:
        raise busy(lock.machine, str(job))
    why = last.get("why") or "the machine gave no answer"
    if last.get("about") == "unsure":
        raise DeadlineExceeded(f"the lock was not lifted: {why}", machine=lock.machine, hint="Try again.")
    hint = "Look at the room on its disk, and whether it is mounted read-only."
    raise ScriptFailed(f"the lock can't be lifted: {why}", exit_code=0, machine=lock.machine, hint=hint)


def busy(machine: str, job_id: str) -> ManagerBusy:
    """Return why a lock is not lifted while a job runs."""
    return ManagerBusy(
        f"the lock is not lifted: job {job_id} is running",
        machine=machine,
        hint="Wait for the end of that job. It is never ended from outside.",
    )


def _ask(transport: Transport, clock: Clock, params: dict[str, str]) -> Sequence[ScriptRecord]:
    script = Script("lock", params, read_only=not params)
    return transport.run(script, deadline=Deadline.after(clock, ASK_SECONDS)).records
