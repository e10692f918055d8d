"""A Session: the Transport that everybody gets. It connects when it is first needed, and again when the line broke."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base

from tasks.errors import ConnectionLost, DeadlineExceeded, FleetpatchError, TransportError
from tasks.protocols.clock import Clock, Deadline
from tasks.protocols.transport import Job, JobStatus, Script, ScriptResult, Transport

MAX_ATTEMPTS: Final = 3
POLL_TIMEOUT_SECONDS: Final = 20.0
"""A look takes milliseconds on the machine: when none comes back for so long, the line is dead."""

_Result = TypeVar("_Result")


class Connection(Transport, Protocol):
    """A Transport that is open now, and ends when its line does. What a kind of transport has to give."""

    @property
    def is_open(self) -> bool:
        """Whether another call may be tried on it."""
        ...


ConnectionOpener = Callable[[Deadline], Connection]
"""Opens a connection to one machine; raises TransportError."""


class Session:
    """One machine's Transport over an opener; at most one connection at a time.

    What only reads, looking at a job, and starting one (which attaches, the second time) is asked again when the line
    broke, at most three times in all and never past the deadline. A script that changes something is sent once. A
    machine that can't be reached is raised at once: how often a connection is tried is for its opener to know. So are
    errors that another try can't mend (a refused login, another host key).

    Args:
        opener: how the machine is reached.
        machine: its name, for errors.
        clock: for waits and deadlines.
    """

    def __init__(self, opener: ConnectionOpener, *, machine: str, clock: Clock) -> None:
        self._opener = opener
        self._machine = machine
        self._clock = clock
        self._connection: Connection | None = None

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait for its end; again only when it is read-only."""
        if not script.read_only:
            connection = self._retry_on_connection_loss(deadline, lambda: self._ensure_connection(deadline))
            return self._call_once(lambda: connection.run_script(script, deadline=deadline))
        return self._retry_on_connection_loss(
            deadline, lambda: self._ensure_connection(deadline).run_script(script, deadline=deadline)
        )

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """Start a job, or attach to it; asked twice is done once."""
        return self._retry_on_connection_loss(
            deadline, lambda: self._ensure_connection(deadline).start_job(job, deadline=deadline)
        )

    def poll_job(self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0) -> JobStatus:
        """Look at a job. A machine that does not answer a look in time is a line that was lost."""

        def poll_once() -> JobStatus:
            short = deadline.limit_to(self._clock, POLL_TIMEOUT_SECONDS)
            try:
                return self._ensure_connection(short).poll_job(
                    job_id, deadline=short, events_from=events_from, log_from=log_from
                )
            except DeadlineExceeded as error:
                raise ConnectionLost(
                    f"the machine did not answer a look at job {job_id}: {error.message}", hint=error.hint
                ) from error

        return self._retry_on_connection_loss(deadline, poll_once)

    def close(self) -> None:
        """Give the connection up. Jobs go on. A later call opens it anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ensure_connection(self, deadline: Deadline) -> Connection:
        if self._connection is not None and not self._connection.is_open:
            self.close()
        if self._connection is None:
            if deadline.has_passed(self._clock):
                raise DeadlineExceeded("no time was left to ask the machine", machine=self._machine)
            self._connection = self._opener(deadline)
        return self._connection

    def _call_once(self, ask: Callable[[], _Result]) -> _Result:
        try:
            return ask()
        except FleetpatchError as error:
            error.machine = error.machine or self._machine
            if isinstance(error, TransportError):
                self.close()
            raise

    def _retry_on_connection_loss(self, deadline: Deadline, ask: Callable[[], _Result]) -> _Result:
        retrying = Retrying(
            retry=retry_if_exception_type(ConnectionLost),
            stop=stop_any(stop_after_attempt(MAX_ATTEMPTS), _StopBeforeDeadline(deadline, self._clock)),
            wait=wait_exponential_jitter(initial=1, max=10, jitter=1),
            sleep=self._clock.sleep,
            reraise=True,
        )
        answer: _Result = retrying(self._call_once, ask)
        return answer


class _StopBeforeDeadline(stop_base):
    """Stops before a wait that would end after the deadline."""

    def __init__(self, deadline: Deadline, clock: Clock) -> None:
        self._deadline = deadline
        self._clock = clock

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._deadline.remaining_seconds(self._clock) <= retry_state.upcoming_sleep
