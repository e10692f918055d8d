"""Watches a job on a machine until it ends, also when the connection breaks in between."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FleetpatchError,
    HostKeyMismatch,
    HostKeyUnknown,
    JobLost,
)
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.package_manager import Transaction
from tasks.domain.protocols.transport import JobPhase, JobStatus, Script, ScriptRecord
from tasks.domain.states import Step
from tasks.rules.machine_checks.report_limits import require_count
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.jobs.job_result import EndedJob, parse_number
from tasks.steps.machine.retry import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    STOP_CHECK_SECONDS,
    close_before_pause,
    is_transient,
    sleep_unless_stopped,
)

logger = logging.getLogger(__name__)

POLL_TIMEOUT_SECONDS = 60.0  # one poll of a job, including a reconnection
ANSWER_TIMEOUT_SECONDS = 15.0  # beyond its wait, one poll over a connection that has just answered
# pauses while a job reports progress: each poll opens a login session
SHORTEST_PROGRESS_PAUSE_SECONDS, LONGEST_PROGRESS_PAUSE_SECONDS = 1.0, 4.0
# how long a look waits on the machine for the job's end, which it tells at once: a stop request is passed on after that
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 3.0, 8.0
# pause of a run that was asked to stop: a person waits for its end, or is about to end this process
STOPPING_PAUSE_SECONDS = 2.0
MAX_UNEXPECTED_ERRORS = 3
"""Polls in a row that may end in a refused login or an invalid answer, because an upgrade may replace what logins
need. More refusals could lock accounts."""
MAX_LOG_CHARACTERS = 4 * 1024 * 1024  # the part of a job's raw output that is kept
MAX_EVENTS = 200_000
"""Records of one job. The largest runs some hundred transactions, with some hundred records of progress each."""
MAX_EVENT_CHARACTERS = 64 * 1024 * 1024
_LOG_END = "\n[the rest of the output was not read]\n"


@dataclass(slots=True)
class _JobReader:
    """What was read of a job so far."""

    on_event: Callable[[ScriptRecord], None]
    events: list[ScriptRecord] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    log_characters: int = 0
    event_characters: int = 0
    events_offset: int = 0
    log_offset: int = 0

    def add_status(self, view: JobStatus) -> None:
        """Add what a poll returned. Raise ReportTooLarge if the job writes more records than any real job."""
        self.events_offset, self.log_offset = view.events_offset, view.log_offset
        for event in view.events:
            self.event_characters += sum(len(value) for value in event.values() if isinstance(value, str))
            self.events.append(event)
            self.on_event(event)
        require_count(len(self.events), MAX_EVENTS, "records of a job")
        require_count(self.event_characters, MAX_EVENT_CHARACTERS, "characters in records of a job")
        if self.log_characters < MAX_LOG_CHARACTERS:
            self.log_characters += len(view.log)
            self.log.append(view.log if self.log_characters < MAX_LOG_CHARACTERS else view.log + _LOG_END)

    def build_ended_job(self, view: JobStatus, machine: str) -> EndedJob:
        """Return the job with all that was read of it. Raise JobLost if the machine does not know the job."""
        if view.phase is JobPhase.ABSENT:
            raise JobLost(
                f"job {view.job_id} is not known on the machine",
                machine=machine,
                hint="Its directory is gone. What it did is asked of the package database.",
            )
        return EndedJob(view.phase, view.exit_code, tuple(self.events), "".join(self.log))


def watch_job(
    context: MachineContext,
    started: JobStatus,
    on_event: Callable[[ScriptRecord], None],
    deadline: Deadline,
    *,
    may_be_stopped: bool = True,
) -> EndedJob:
    """Read a job's records until it has ended. ``started`` is the machine's answer to its start.

    A lost connection does not end the watch: the job does not need the connection, so the job is polled again until the
    deadline. If a stop is requested, the job gets the request, and ends between two transactions, unless it may not be
    stopped. The deadline stops the watch, and never the job itself.

    Raises:
        ConnectionLost: the machine was unreachable at the deadline.
        DeadlineExceeded: the machine answers, and the job still ran at the deadline.
        JobLost: the machine answers, and does not know the job.
        ReportTooLarge: the job writes more records than any real job. It goes on, and is not watched any more.
    """
    clock, job_id = context.clock, started.job_id
    reader = _JobReader(on_event)
    poll_interval = _PollInterval(clock.now(), context.manager.longest_poll_seconds)
    unexpected_errors, stop_sent = 0, not may_be_stopped
    answered_at = clock.now()
    wait_seconds = SHORTEST_WAIT_SECONDS if started.can_wait else 0.0
    while True:
        if context.stop_token.is_stopping and not stop_sent:
            stop_sent = forward_stop(context, job_id)
        asked_at = clock.now()
        # less time over a connection that has just answered: a lost line is soon told
        poll_seconds = wait_seconds + ANSWER_TIMEOUT_SECONDS if wait_seconds else POLL_TIMEOUT_SECONDS
        try:
            view = context.transport.poll_job(
                job_id,
                events_from=reader.events_offset,
                log_from=reader.log_offset,
                wait_seconds=wait_seconds,
                deadline=Deadline.after(clock, poll_seconds),
            )
        except FleetpatchError as error:
            unexpected_errors = 0 if is_transient(error) else unexpected_errors + 1
            if (
                deadline.has_passed(clock)
                or unexpected_errors > MAX_UNEXPECTED_ERRORS
                or isinstance(error, HostKeyMismatch | HostKeyUnknown)
            ):
                raise _build_lost_error(context.name, job_id, error) from error
            context.report_silence(answered_at)
            clock.sleep(min(LONGEST_PAUSE_SECONDS, max(0.0, deadline.remaining_seconds(clock))))
            wait_seconds = 0.0
            continue
        context.report_answer()
        unexpected_errors, answered_at = 0, clock.now()
        reader.add_status(view)
        if view.phase is not JobPhase.RUNNING and (view.is_read or not (view.events or view.log)):
            return reader.build_ended_job(view, context.name)
        if view.phase is not JobPhase.RUNNING:
            wait_seconds = 0.0
            continue  # the job has ended, and there is more to read
        if deadline.has_passed(clock):
            raise DeadlineExceeded(
                f"job {job_id} was still running when watching it ended",
                machine=context.name,
                hint="It ends by itself. Assess the machine later: its package database shows the result.",
            )
        pause = poll_interval.find_next_seconds(view.events, clock.now())
        pause = min(pause, max(STOP_CHECK_SECONDS, deadline.remaining_seconds(clock)))
        if context.stop_token.is_stopping:
            pause = min(STOPPING_PAUSE_SECONDS, pause)
        if view.can_wait:
            # the rest of a wait that the machine has broken off
            sleep_unless_stopped(context, wait_seconds - (clock.now() - asked_at).total_seconds())
            # twice the pause, as each look starts processes on the machine
            wait_seconds = 0.0 if context.stop_token.is_stopping else 2 * pause
            wait_seconds = min(LONGEST_WAIT_SECONDS, max(SHORTEST_WAIT_SECONDS, wait_seconds))
            continue
        close_before_pause(context, pause)
        sleep_unless_stopped(context, pause)


def _build_lost_error(machine: str, job_id: str, error: FleetpatchError) -> ConnectionLost:
    message, hint = error.message, "Assess the machine when it can be reached."
    if isinstance(error, HostKeyMismatch):
        message, hint = error.describe_in_run(), error.hint
    hint = f"The job may still run, or have ended by itself. {hint}"
    return ConnectionLost(f"connection lost while job {job_id} was running: {message}", machine=machine, hint=hint)


@dataclass(slots=True)
class _PollInterval:
    """The pause until the next poll of a job: short if something is about to happen, else longer.

    Attributes:
        transaction_started_at: when the job last wrote a record other than progress, for example the start of a
            transaction.
    """

    transaction_started_at: datetime
    longest_seconds: float
    seconds: float = FIRST_PAUSE_SECONDS

    def find_next_seconds(self, events: Sequence[ScriptRecord], now: datetime) -> float:
        """Return the next pause, after a poll that returned these records."""
        if not events:
            self.seconds = min(self.longest_seconds, self.seconds * 1.3)
        elif events[-1].get("kind") != "progress":
            self.transaction_started_at, self.seconds = now, FIRST_PAUSE_SECONDS
        else:  # a third of the time that the transaction still needs at its present speed
            percent = events[-1].get("percent")
            done = percent / 100 if isinstance(percent, int | float) and 1 <= percent <= 100 else 0.01
            left = (now - self.transaction_started_at).total_seconds() * (1 - done) / done
            self.seconds = min(LONGEST_PROGRESS_PAUSE_SECONDS, max(SHORTEST_PROGRESS_PAUSE_SECONDS, left / 3))
        return self.seconds


def request_job_stop(context: MachineContext, job_id: str) -> None:
    """Ask a job to end between two transactions."""
    script = Script("job_stop", {"id": job_id})
    context.transport.run_script(script, deadline=Deadline.after(context.clock, POLL_TIMEOUT_SECONDS))


def forward_stop(context: MachineContext, job_id: str) -> bool:
    """Ask a job to stop. Return whether the request arrived. If it did not, the job is still watched."""
    try:
        request_job_stop(context, job_id)
    except FleetpatchError as error:
        logger.info("%s: job %s could not be asked to stop: %s", context.name, job_id, error.message)
        return False
    return True


_VERBS: Final[Mapping[Kind, str]] = {
    Kind.STAGE: "downloading",
    Kind.INSTALL: "installing",
    Kind.REPAIR: "repairing",
    Kind.REMOVE: "removing",
    Kind.ROLL_BACK: "putting back",
}


class JobProgressReporter:
    """Turns a job's records into progress."""

    def __init__(self, context: MachineContext, step: Step, kind: Kind, transactions: Sequence[Transaction]) -> None:
        self._context, self._step, self._verb = context, step, _VERBS[kind]
        self._is_downloading = False
        self._update_count = max(1, sum(len(t.updates) for t in transactions))
        self._updates_per_transaction = {t.number: len(t.updates) for t in transactions}
        self._ended_count = 0

    def report_record(self, event: ScriptRecord) -> None:
        """Report the progress that a record of the job shows, if any."""
        kind, count = event.get("kind"), self._update_count
        own_count = self._updates_per_transaction.get(int(parse_number(event.get("number"), -1)), 0)
        if kind not in {"progress", "waiting"}:
            self._is_downloading = kind == "download_started"
        if kind == "waiting":
            who = str(event.get("who") or "another process uses the package manager")[:200]
            self._report(self._ended_count / count, f"waiting, as long as the window allows: {who}")
        elif kind in {"transaction_ended", "not_attempted"}:
            self._ended_count += own_count
            self._report(self._ended_count / count, f"{self._verb}: {self._ended_count} of {count}")
        elif kind == "progress":
            share = own_count * parse_number(event.get("percent"), 0.0) / 100
            subject = str(event.get("update") or event.get("action") or "")[:60]
            verb = "downloading" if self._is_downloading else self._verb
            fraction = (self._ended_count + share) / count
            # Package managers tell a percentage of the transaction, so the number of the update is about right.
            position = f" (about {min(count, int(fraction * count) + 1)} of {count})" if count > 1 else ""
            self._report(fraction, f"{verb} {subject}{position}")

    def _report(self, fraction: float, message: str) -> None:
        self._context.report_progress(self._step, message, min(1.0, fraction))
