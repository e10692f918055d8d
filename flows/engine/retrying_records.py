"""Records that wait for an unavailable database, and refuse to write once the lease of the run is lost."""

import functools
from collections.abc import Callable, Collection, Set
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from flows.ports.audit import AuditAppender
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport, UpdateKey, Window
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry, Records, build_lease_lost_error
from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.retry import retry
from tasks.domain.scheduled_events import EventDocument, EventStatus, ScheduledEvent
from tasks.rules.runs.reboot_decision import REBOOT_MEASURE as REBOOT
from tasks.steps.context.run_control import ProgressListener

T = TypeVar("T")
Store = TypeVar("Store")

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


def build_retrying_saver(save: Callable[[T], None], clock: Clock, window: Window | None) -> Callable[[T], None]:
    """Return a function that saves, and waits for an unavailable database, at most until the window's end."""
    until = window.end if window is not None else None
    return lambda item: retry_while_unavailable(lambda: save(item), clock, until)


def build_retrying_appender(append: AuditAppender, clock: Clock, until: datetime | None) -> AuditAppender:
    """Return an appender of the audit log that waits for an unavailable database, at most until the window's end."""
    return lambda entry: retry_while_unavailable(lambda: append(entry), clock, until)


class _RetryingStore(Generic[Store]):
    """A part of the records. Its calls wait for an unavailable database, at most until the window's end.

    Args:
        until: the end of the run's window.
    """

    def __init__(
        self,
        inner: Store,
        clock: Clock,
        until: datetime | None,
        listener: ProgressListener,
        still_holds_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inner, self._clock, self._until, self._listener = inner, clock, until, listener
        self._still_holds_lease = still_holds_lease

    def _require_lease(self) -> None:
        """Check the lease before each try: while the records were unavailable, another process may have taken it."""
        if not self._still_holds_lease():
            raise build_lease_lost_error()

    def _retry_while_unavailable(self, call: Callable[[], T]) -> T:
        return retry_while_unavailable(call, self._clock, self._until, self._listener.on_message)


class RetryingEvents(_RetryingStore[ScheduledEvents]):
    """The scheduled events of a run. Each call waits for an unavailable database, and writes only with the lease."""

    def announce(self, event: ScheduledEvent) -> ScheduledEvent:
        """See ScheduledEvents."""
        return self._write(lambda: self._inner.announce(event))

    def find(self, run_id: str, machine: str = "") -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents."""
        return self._retry_while_unavailable(lambda: self._inner.find(run_id, machine))

    def change(self, event_id: str, status: EventStatus, reason: str = "", by: str = "") -> ScheduledEvent:
        """See ScheduledEvents."""
        return self._write(lambda: self._inner.change(event_id, status, reason, by))

    def approve(self, machine: str, event_ids: Collection[str]) -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents."""
        return self._write(lambda: self._inner.approve(machine, event_ids))

    def read_document(self, machine: str, above: int = 0) -> EventDocument:
        """See ScheduledEvents."""
        return self._retry_while_unavailable(lambda: self._inner.read_document(machine, above))

    def _write(self, call: Callable[[], T]) -> T:
        def call_with_lease() -> T:
            self._require_lease()
            return call()

        return self._retry_while_unavailable(call_with_lease)


class RetryingRecords(_RetryingStore[Records]):
    """Records of a run. A change waits until its journal entry is stored."""

    def __init__(
        self,
        inner: Records,
        clock: Clock,
        until: datetime | None,
        listener: ProgressListener,
        still_holds_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(inner, clock, until, listener, still_holds_lease)
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

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        """See Records."""
        return self._retry_while_unavailable(lambda: self._inner.read_first_seen(updates))

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "RetryingRecords":
        """See Records."""
        inner = self._inner.with_lease(run_id, holder)
        return RetryingRecords(inner, self._clock, self._until, self._listener, self._still_holds_lease)
