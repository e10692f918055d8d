"""Follow a job on a machine until it ends, whatever happens to the line in between."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import ConnectionLost, JobLost, TransportError
from tasks.seams.clock import Deadline
from tasks.seams.transport import JobPhase, JobView, Script, ScriptRecord
from tasks.steps.context import Work

LOOK_SECONDS = 60.0  # one look at a job, reconnecting included
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
LOG_LIMIT = 4 * 1024 * 1024  # what is kept of a job's raw output


@dataclass(frozen=True, slots=True)
class Followed:
    """A job's whole story: every record that it wrote, its raw output, and how it ended."""

    phase: JobPhase
    exit_code: int | None
    events: tuple[ScriptRecord, ...]
    log: str


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
        JobLost: the machine answers, and the job's process is gone without a result, or the deadline came first.
    """
    clock = work.context.clock
    events: list[ScriptRecord] = []
    log: list[str] = []
    offset = log_offset = 0
    pause = FIRST_PAUSE
    stop_sent = False
    while True:
        try:
            if work.context.control.stopping and not stop_sent:
                ask_to_stop(work, job_id)
                stop_sent = True
            view = work.transport.look(
                job_id, events_from=offset, log_from=log_offset, deadline=Deadline.after(clock, LOOK_SECONDS)
            )
        except TransportError as error:
            if not error.transient or deadline.passed(clock):
                raise ConnectionLost(
                    f"out of touch while job {job_id} was running: {error.message}",
                    machine=work.name,
                    hint="The job may still run, or have ended by itself. Resume the run: it attaches to the job.",
                ) from error
            clock.sleep(min(LONGEST_PAUSE, max(0.0, deadline.remaining(clock))))
            continue
        offset, log_offset = view.events_offset, view.log_offset
        for event in view.events:
            events.append(event)
            on_event(event)
        if sum(map(len, log)) < LOG_LIMIT:
            log.append(view.log)
        if _drained(view):
            return _ended(work, view, tuple(events), "".join(log))
        if deadline.passed(clock):
            raise JobLost(
                f"job {job_id} was still running when watching it ended",
                machine=work.name,
                hint="It is left to end by itself. Resume the run: it attaches to the job.",
            )
        pause = FIRST_PAUSE if view.events else min(LONGEST_PAUSE, pause * 1.3)
        if view.phase is JobPhase.RUNNING:
            clock.sleep(pause)


def ask_to_stop(work: Work, job_id: str) -> None:
    """Ask a job to end between two transactions."""
    script = Script("job_stop", {"id": job_id})
    work.transport.run(script, deadline=Deadline.after(work.context.clock, LOOK_SECONDS))


def _drained(view: JobView) -> bool:
    """Whether the job has ended and everything it wrote has been read."""
    return view.phase is not JobPhase.RUNNING and not view.events and not view.log


def _ended(work: Work, view: JobView, events: tuple[ScriptRecord, ...], log: str) -> Followed:
    if view.phase is JobPhase.ABSENT:
        raise JobLost(
            f"job {view.job_id} is not known on the machine",
            machine=work.name,
            hint="Its directory is gone. What it did is asked of the package database.",
        )
    return Followed(view.phase, view.exit_code, events, log)
