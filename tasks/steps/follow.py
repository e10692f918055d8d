"""Follow a job on a machine until it ends, whatever happens to the line in between."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tasks.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyMismatch,
    HostKeyUnknown,
    JobLost,
    RecordsError,
    TransportError,
)
from tasks.seams.clock import Deadline
from tasks.seams.transport import Job, JobPhase, JobView, Script, ScriptRecord
from tasks.steps.context import Work

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  # one look at a job, reconnecting included
START_SECONDS = 120.0  # one try to hand a job over, reconnecting included
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
SHORT_PAUSE, BUSY_PAUSE = 1.0, 4.0  # while a job tells of its progress: each look is a session of sudo's
STOPPING_PAUSE = 2.0  # of a run that was asked to stop: somebody waits for its end, or is about to end this process
SLICE_SECONDS = 1.0  # how often a pause looks whether the run was asked to stop
ODD_LOOKS = 3
"""Looks in a row that may end in a refused login or nonsense: while sudo, PAM or the C library are being replaced, that
passes. More often would lock accounts."""
LOG_LIMIT = 4 * 1024 * 1024  # what is kept of a job's raw output

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Followed:
    """A job's whole story: every record that it wrote, its raw output, and how it ended."""

    phase: JobPhase
    exit_code: int | None
    events: tuple[ScriptRecord, ...]
    log: str


@dataclass(slots=True)
class _Read:
    """What was read of a job so far."""

    on_event: Callable[[ScriptRecord], None]
    events: list[ScriptRecord] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    events_from: int = 0
    log_from: int = 0

    def add(self, view: JobView) -> None:
        self.events_from, self.log_from = view.events_offset, view.log_offset
        for event in view.events:
            self.events.append(event)
            self.on_event(event)
        if sum(map(len, self.log)) < LOG_LIMIT:
            self.log.append(view.log)


def hand_over(work: Work, job: Job) -> None:
    """Start a job, or attach to it. A line that is cut meanwhile tells nothing, so it is asked again: done once.

    Raises:
        ConnectionLost: the machine stayed out of touch; the job may be running.
        FleetpatchError: the machine would not start it.
    """
    clock = work.context.clock
    until = Deadline.after(clock, work.context.options.out_of_touch_seconds)
    try:
        patiently(work, lambda: _start(work, job), until)
    except TransportError as error:
        raise ConnectionLost(
            f"out of touch while job {job.id} was handed over: {error.message}",
            machine=work.name,
            hint="The job may be running. Assess the machine once it can be reached: its package database tells.",
        ) from error


def _start(work: Work, job: Job) -> JobView:
    if not work.context.control.ours():  # this process may have been held up since it asked the last time
        raise RecordsError(
            "somebody else has taken this run over, so nothing more is begun from here",
            machine=work.name,
            hint="See the run: its new holder goes on with it.",
        )
    return work.transport.start(job, deadline=Deadline.after(work.context.clock, START_SECONDS))


def follow(work: Work, job_id: str, on_event: Callable[[ScriptRecord], None], deadline: Deadline) -> Followed:
    """Read a job's records until it has ended.

    A lost line is no reason to stop: the job goes on without us, so it is looked for again until the deadline. A run
    that was asked to stop passes that on to the job, which then ends between two transactions.

    Args:
        work: the machine's turn.
        job_id: of a job that was started.
        on_event: called for each record, in order.
        deadline: when to stop watching; the job itself is never stopped by it.

    Raises:
        ConnectionLost: the machine was out of touch when the deadline came.
        DeadlineExceeded: the machine answers, and the deadline came while the job was running.
        JobLost: the machine answers, and knows nothing of the job.
    """
    clock = work.context.clock
    read = _Read(on_event)
    pace, odd, stop_sent = _Pace(clock.now()), 0, False
    while True:
        if work.context.control.stopping and not stop_sent:
            stop_sent = pass_on_stop(work, job_id)
        try:
            view = work.transport.look(
                job_id,
                events_from=read.events_from,
                log_from=read.log_from,
                deadline=Deadline.after(clock, LOOK_SECONDS),
            )
        except FleetpatchError as error:
            odd = 0 if passing(error) else odd + 1
            if deadline.passed(clock) or odd > ODD_LOOKS or isinstance(error, HostKeyMismatch | HostKeyUnknown):
                raise _out_of_touch(work, job_id, error) from error
            clock.sleep(min(LONGEST_PAUSE, max(0.0, deadline.remaining(clock))))
            continue
        odd = 0
        read.add(view)
        if _drained(view):
            return _ended(work, view, read)
        if view.phase is not JobPhase.RUNNING:
            continue  # it has ended, and there is more to read
        if deadline.passed(clock):
            raise _still_running(work, job_id)
        pause = pace.after(view.events, clock.now())
        if work.context.control.stopping:
            pause = min(STOPPING_PAUSE, pause)
        if pause >= LONGEST_PAUSE:  # opening a connection anew costs less than to hold hundreds that are idle
            work.transport.close()
        _pause(work, pause)


@dataclass(slots=True)
class _Pace:
    """How long to wait until a job is looked at again: shortly when something is about to happen, longer when not.

    Attributes:
        since: when the job told of something else than progress, the begin of a transaction for example.
        seconds: the last pause.
    """

    since: datetime
    seconds: float = FIRST_PAUSE

    def after(self, events: Sequence[ScriptRecord], now: datetime) -> float:
        """Return the next pause, after a look that brought these records."""
        if not events:
            self.seconds = min(LONGEST_PAUSE, self.seconds * 1.3)
        elif events[-1].get("kind") != "progress":
            self.since, self.seconds = now, FIRST_PAUSE
        else:  # a third of the time that its transaction will still take, if it goes on as it did
            percent = events[-1].get("percent")
            done = percent / 100 if isinstance(percent, int | float) and 1 <= percent <= 100 else 0.01
            left = (now - self.since).total_seconds() * (1 - done) / done
            self.seconds = min(BUSY_PAUSE, max(SHORT_PAUSE, left / 3))
        return self.seconds


def _pause(work: Work, seconds: float) -> None:
    """Let time pass; when the run is asked to stop meanwhile, only until then."""
    stopping = work.context.control.stopping
    while seconds > 0 and work.context.control.stopping is stopping:
        work.context.clock.sleep(min(SLICE_SECONDS, seconds))
        seconds -= SLICE_SECONDS


def patiently(work: Work, ask: Callable[[], T], until: Deadline) -> T:
    """Ask again after errors that pass by themselves, until the deadline. Only for what may be asked twice."""
    clock = work.context.clock
    while True:
        try:
            return ask()
        except FleetpatchError as error:
            if not passing(error) or until.remaining(clock) <= LONGEST_PAUSE:
                raise
            logger.info("%s: asking again after: %s", work.name, error.message)
        clock.sleep(LONGEST_PAUSE)


def passing(error: FleetpatchError) -> bool:
    """Whether an error may pass by itself; a machine that was too slow this once may be quicker the next time."""
    return error.transient or isinstance(error, DeadlineExceeded)


def ask_to_stop(work: Work, job_id: str) -> None:
    """Ask a job to end between two transactions."""
    script = Script("job_stop", {"id": job_id})
    work.transport.run(script, deadline=Deadline.after(work.context.clock, LOOK_SECONDS))


def pass_on_stop(work: Work, job_id: str) -> bool:
    """Ask a job to stop and return whether that arrived. When it did not, the job is watched all the same."""
    try:
        ask_to_stop(work, job_id)
    except FleetpatchError as error:
        logger.info("%s: job %s could not be asked to stop: %s", work.name, job_id, error.message)
        return False
    return True


def _drained(view: JobView) -> bool:
    """Whether the job has ended and everything it wrote has been read."""
    return view.phase is not JobPhase.RUNNING and not view.events and not view.log


def _ended(work: Work, view: JobView, read: _Read) -> Followed:
    if view.phase is JobPhase.ABSENT:
        raise JobLost(
            f"job {view.job_id} is not known on the machine",
            machine=work.name,
            hint="Its directory is gone. What it did is asked of the package database.",
        )
    return Followed(view.phase, view.exit_code, tuple(read.events), "".join(read.log))


def _out_of_touch(work: Work, job_id: str, error: FleetpatchError) -> ConnectionLost:
    return ConnectionLost(
        f"out of touch while job {job_id} was running: {error.message}",
        machine=work.name,
        hint="The job may still run, or have ended by itself. Assess the machine once it can be reached.",
    )


def _still_running(work: Work, job_id: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"job {job_id} was still running when watching it ended",
        machine=work.name,
        hint="It is left to end by itself. Assess the machine later: its package database tells.",
    )
