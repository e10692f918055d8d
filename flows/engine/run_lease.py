"""The lease of a run, and records that wait for an unavailable database and refuse to write once the lease is lost."""

import functools
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypeVar

from flows.ports.audit import AuditAppender
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.leases import LeaseHolder, Leases
from tasks.domain.protocols.records import JournalEntry, Records, build_lease_lost_error
from tasks.domain.retry import retry
from tasks.rules.runs.reboot_decision import REBOOT_MEASURE as REBOOT
from tasks.steps.context.run_context import ProgressListener, StopToken

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # how long a lease is valid after its last renewal
RENEW_SECONDS = 5.0  # short, so that the run sees a stop request soon
STOPPING_LEASE_SECONDS = 15.0
"""How long a lease is valid while its run stops. The run begins nothing more, so another process may finalize it
sooner.
"""


def build_holder(user: str) -> LeaseHolder:
    """Return this process as the holder of a lease, for one attempt."""
    return LeaseHolder(secrets.token_hex(8), socket.gethostname(), os.getpid(), user)


class LeaseRenewer:
    """Holds a run lease inside a ``with`` block, and renews it in a separate thread.

    If another process has taken the lease, the run begins nothing more. If the lease can't be renewed because the
    records are unavailable, the run does not stop: no other process can reach the records and take the lease. The run
    waits before its next change anyway.
    """

    def __init__(self, leases: Leases, run_id: str, stop_token: StopToken, holder: LeaseHolder) -> None:
        self._leases, self._run_id, self._stop_token, self._holder = leases, run_id, stop_token, holder
        self._stop_event, self._lost = threading.Event(), threading.Event()
        self._renewed_at = time.monotonic()
        self._lease_seconds = LEASE_SECONDS
        self._thread = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, and read an earlier stop request.

        Raises:
            LeaseHeld: another process executes this run.
            RecordsError: the records can't be reached.
        """
        asked = time.monotonic()
        self._leases.acquire(self._run_id, self._holder, LEASE_SECONDS)
        self._renewed_at = asked
        self._stop_token.still_holds_lease = self.still_holds_lease
        self._renew()
        self._thread.start()
        return self

    def still_holds_lease(self) -> bool:
        """Return whether this process holds the lease. Renew it first if its last renewal is too old.

        A process that was paused past the end of its lease does not know yet whether another process has taken it.
        """
        if not self._lost.is_set() and time.monotonic() - self._renewed_at > self._lease_seconds:
            self._renew()
        return not self._lost.is_set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease. If that fails, the lease expires."""
        self._stop_event.set()
        self._thread.join()
        try:
            self._leases.release(self._run_id, self._holder)
        except RecordsError as failed:
            logger.warning("the lease of run %s could not be given back: %s", self._run_id, failed)

    def _renew_until_stopped(self) -> None:
        while not self._lost.is_set() and not self._stop_event.wait(RENEW_SECONDS):
            self._renew()

    def _renew(self) -> None:
        lasts = STOPPING_LEASE_SECONDS if self._stop_token.is_stopping else LEASE_SECONDS
        asked = time.monotonic()  # before the call, because the process may be paused before it reads the answer
        try:
            renewal = self._leases.renew(self._run_id, self._holder, lasts)
        except RecordsError as error:
            logger.warning("the lease of run %s could not be renewed: %s", self._run_id, error)
            return
        self._renewed_at, self._lease_seconds = asked, lasts
        if renewal.stop is not None:
            self._stop_token.request_stop(f"{renewal.stop.reason} ({renewal.stop.who})")
        if not renewal.is_kept:
            self._lost.set()
            self._stop_token.mark_lease_lost()


T = TypeVar("T")

RETRY_INTERVAL = timedelta(seconds=2)
MIN_RETRY_TIME = timedelta(seconds=60)
"""How long to wait for the database after the window is over. Outcomes and missed windows must still be recorded."""


def retry_while_unavailable(
    call: Callable[[], T], clock: Clock, until: datetime | None, tell: Callable[[str], None] = lambda _message: None
) -> T:
    """Call the records, and repeat the call while they are unavailable: until a time, and for at least a minute.

    It tells the wait once, and once more when the records are back.

    Raises:
        RecordsUnavailable: they are still unavailable.
    """
    last = clock.now() + MIN_RETRY_TIME
    deadline = Deadline((last if until is None else max(last, until)) + RETRY_INTERVAL)
    failures: list[RecordsUnavailable] = []

    def report_first_failure(error: RecordsUnavailable) -> None:
        if not failures:
            tell(f"waiting: records database unavailable ({error.message})")
        failures.append(error)

    result = retry(
        call, RecordsUnavailable, clock=clock, deadline=deadline, wait=RETRY_INTERVAL, on_retry=report_first_failure
    )
    if failures:
        tell("records database available again: the run continues")
    return result


def build_retrying_appender(append: AuditAppender, clock: Clock, until: datetime | None) -> AuditAppender:
    """Return an appender of the audit log that waits for an unavailable database, at most until the window's end."""
    return lambda entry: retry_while_unavailable(lambda: append(entry), clock, until)


class RetryingRecords:
    """Records of a run. A change waits until its journal entry is stored, at most until the window's end.

    Args:
        until: the end of the run's window.
    """

    def __init__(
        self,
        inner: Records,
        clock: Clock,
        until: datetime | None,
        listener: ProgressListener,
        still_holds_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inner, self._clock, self._until, self._listener = inner, clock, until, listener
        self._still_holds_lease = still_holds_lease
        self._cached_measures: dict[tuple[str, str], float | None] = {}

    def append_entry(self, entry: JournalEntry) -> None:
        """See Records."""

        def append_entry() -> None:
            self._require_lease()
            self._inner.append_entry(entry)
            self._require_lease()  # the change comes next, and storing may have taken longer than the lease is valid

        self._retry_while_unavailable(append_entry)

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """See Records."""
        return self._retry_while_unavailable(lambda: self._inner.read_entries(run_id, machine))

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """See Records."""

        def save_item() -> None:
            self._require_lease()
            self._inner.save(item)

        self._retry_while_unavailable(save_item)

    def read_measure(self, machine: str, measure: str) -> float | None:
        """See Records. The value is read once in a run, because it must not change during the run.

        Only the reboot time is waited for, because the reboot reserve depends on it. Other measures have safe defaults.
        """
        key = machine, measure
        if key in self._cached_measures:
            return self._cached_measures[key]
        ask = functools.partial(self._inner.read_measure, machine, measure)
        if measure == REBOOT:
            self._cached_measures[key] = self._retry_while_unavailable(ask)
        else:
            with suppress(RecordsUnavailable):
                self._cached_measures[key] = ask()
        return self._cached_measures.get(key)

    def read_last_assessment(self, machine: str) -> Assessment | None:
        """See Records."""
        return self._retry_while_unavailable(lambda: self._inner.read_last_assessment(machine))

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "RetryingRecords":
        """See Records."""
        inner = self._inner.with_lease(run_id, holder)
        return RetryingRecords(inner, self._clock, self._until, self._listener, self._still_holds_lease)

    def _require_lease(self) -> None:
        """Check the lease before each try: while the records were unavailable, another process may have taken it."""
        if not self._still_holds_lease():
            raise build_lease_lost_error()

    def _retry_while_unavailable(self, call: Callable[[], T]) -> T:
        return retry_while_unavailable(call, self._clock, self._until, self._listener.on_message)
