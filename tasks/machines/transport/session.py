"""The Transport that callers use. It connects at the first call, and again after a broken connection."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from tenacity import wait_exponential_jitter

from tasks.domain.errors import ConnectionLost, DeadlineExceeded, FleetpatchError, TransportError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Job, JobStatus, Script, ScriptResult, Transport
from tasks.domain.retry import retry

MAX_ATTEMPTS: Final = 3
POLL_TIMEOUT_SECONDS: Final = 20.0
"""A poll takes milliseconds on the machine, and the time for which it waits. If there is no answer for so long after
that, the connection is dead."""

_Result = TypeVar("_Result")


class Connection(Transport, Protocol):
    """A Transport that is open, and ends with its connection. Each kind of transport implements it."""

    @property
    def is_open(self) -> bool:
        """Whether another call may be tried on it."""


ConnectionOpener = Callable[[Deadline], Connection]
"""Opens a connection to one machine; raises TransportError."""


class Session:
    """One machine's Transport; it opens at most one connection at a time.

    If the connection breaks, it repeats read-only scripts, polls, and starts of jobs (the second start attaches): at
    most three attempts in all, and never after the deadline. A script that changes something is sent once. If a machine
    can't be reached, the error is raised at once: the opener decides how often it tries to connect. The same applies to
    errors that another attempt can't repair (a refused login, another host key). If a poll has no answer for
    ``poll_timeout_seconds``, the connection is dead. Who closes it wants a new login then: ``forget_privilege`` is
    called, so that the login also becomes root anew.
    """

    def __init__(
        self,
        opener: ConnectionOpener,
        *,
        machine: str,
        clock: Clock,
        poll_timeout_seconds: float = POLL_TIMEOUT_SECONDS,
        forget_privilege: Callable[[], None] = lambda: None,
    ) -> None:
        self._opener = opener
        self._machine = machine
        self._clock = clock
        self._connection: Connection | None = None
        self._poll_timeout_seconds = poll_timeout_seconds
        self._forget_privilege = forget_privilege

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        """Run a script and wait for its end. Repeat it only if it is read-only."""
        if not script.read_only:
            connection = self._retry_on_connection_loss(deadline, lambda: self._ensure_connection(deadline))
            return self._call_once(lambda: connection.run_script(script, deadline=deadline))
        return self._retry_on_connection_loss(
            deadline, lambda: self._ensure_connection(deadline).run_script(script, deadline=deadline)
        )

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        """Start a job, or attach to it. A repeated call starts it only once."""
        return self._retry_on_connection_loss(
            deadline, lambda: self._ensure_connection(deadline).start_job(job, deadline=deadline)
        )

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        """Poll a job. If the machine does not answer in time, the connection counts as lost."""

        def poll_once() -> JobStatus:
            short = deadline.limit_to(self._clock, self._poll_timeout_seconds + wait_seconds)
            try:
                return self._ensure_connection(short).poll_job(
                    job_id, deadline=short, events_from=events_from, log_from=log_from, wait_seconds=wait_seconds
                )
            except DeadlineExceeded as error:
                raise ConnectionLost(
                    f"the machine did not answer a look at job {job_id}: {error.message}", hint=error.hint
                ) from error

        return self._retry_on_connection_loss(deadline, poll_once)

    def close(self) -> None:
        """Close the connection. Jobs continue. A later call opens it again, and becomes root anew."""
        self._drop_connection()
        self._forget_privilege()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ensure_connection(self, deadline: Deadline) -> Connection:
        if self._connection is not None and not self._connection.is_open:
            self._drop_connection()
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
                self._drop_connection()
            raise

    def _retry_on_connection_loss(self, deadline: Deadline, ask: Callable[[], _Result]) -> _Result:
        return retry(
            lambda: self._call_once(ask),
            ConnectionLost,
            clock=self._clock,
            deadline=deadline,
            wait=wait_exponential_jitter(initial=1, max=10, jitter=1),
            max_attempts=MAX_ATTEMPTS,
        )
