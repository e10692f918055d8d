"""Keeps the newest snapshot of the fleet in memory, so that pages wait for no file."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import Final, Generic, TypeVar

from deployments.preview.window_fit import WindowFit, estimate_fits
from fleetpatch.machines.snapshot import FleetSnapshot, FleetWindows, build_snapshot, find_fleet_windows
from fleetpatch.machines.sources import SourceReader
from fleetpatch.settings import WebSettings
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Clock
from tasks.domain.rows.machines import LastRun
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.machine_rows import RecordedState
from tasks.records.measures import read_learned_durations
from tasks.records.queries.machines import ChangeMarker, read_change_marker, read_last_runs, read_machine_states
from tasks.records.queries.trends import DayTotals, read_days
from tasks.records.queries.updates import OldUpdate, find_oldest_update
from tasks.records.queries.windows import find_ended_windows
from tasks.records.storage.database import Database
from tasks.reports.formatting import format_known_duration
from tasks.rules.hotpatch import EnrolmentRequest
from tasks.rules.own_updaters import UpdaterRequest

Value = TypeVar("Value")
PAUSE_FACTOR = 20
"""How long a value is kept although it may have changed, as a multiple of the time that it took to compute."""
CHEAP_SECONDS = 0.25
"""A value that took less is computed again at each change."""


class ThrottledValue(Generic[Value]):
    """Computes a value again if its key has changed, but spends at most a twentieth of the time on a dear one.

    An empty value is never kept after a change: it would say that nothing is there.
    Only one thread may use it at a time.
    """

    def __init__(self) -> None:
        self._kept: tuple[Hashable, Value] | None = None
        self._not_before = 0.0
        self._asked: Hashable = None

    @property
    def is_due(self) -> bool:
        """Whether the value that was returned last may have changed, and may be computed again now."""
        is_kept = self._kept is not None and self._kept[0] != self._asked
        return is_kept and time.monotonic() >= self._not_before

    def read(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value.

        ``key``: changes when the value may have changed.
        """
        began, self._asked = time.monotonic(), key
        if self._kept is not None and (self._kept[0] == key or began < self._not_before):
            return self._kept[1]
        value = compute()
        ended = time.monotonic()
        took = ended - began
        pause = PAUSE_FACTOR * took if value and took >= CHEAP_SECONDS else 0.0
        self._kept, self._not_before = (key, value), ended + pause
        return value


DAY = timedelta(days=1)
RECENT_DAYS = 2
"""Today and yesterday (UTC): a run may still store assessments of them."""
_CHUNK_DAYS = 30


class TrendsReader:
    """Reads each past day once. All threads may share it.

    An assessment that is stored more than a day late counts after the process has been started again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._past_lock = threading.Lock()
        self._recent_lock = threading.Lock()
        self._past: dict[date, DayTotals] = {}
        self._recent: ThrottledValue[dict[date, DayTotals]] = ThrottledValue()

    def read(self, today: date, days: int, state: int) -> dict[date, DayTotals]:
        """Return the fleet on each of the last days, oldest first.

        Args:
            today: the last day.
            days: how many, today included.
            state: recent days are read again if it changes.

        Raises:
            RecordsError: the records can't be read.
        """
        first = today - DAY * (days - 1)
        begins_recent = today - DAY * (RECENT_DAYS - 1)
        # A year takes seconds. Who needs only days that are known does not wait until it is read.
        for begin, end in self._list_gaps(first, begins_recent - DAY):
            with self._past_lock:
                if not {begin, end} <= self._past.keys():
                    self._past = self._past | read_days(self._database, begin, end)
        with self._recent_lock:
            recent = self._recent.read((today, state), lambda: read_days(self._database, begins_recent, today))
        every = self._past | recent
        return {day: every[day] for day in (first + DAY * number for number in range(days)) if day in every}

    def _list_gaps(self, first: date, last: date) -> Iterator[tuple[date, date]]:
        """Yield spans that hold all days which are not known, newest first."""
        end = last
        while end >= first:
            if end in self._past:
                end -= DAY
                continue
            begin = max(first, end - DAY * (_CHUNK_DAYS - 1))
            yield begin, end
            end = begin - DAY


logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often files and the states of unfinished runs are looked at."""
WAIT_SECONDS: Final = 0.15
"""How long a request waits for news. A large fleet takes longer: the next request shows it."""
ACT_WAIT_SECONDS: Final = 10.0
"""How long a request that does something waits for news."""
OLD_AGE: Final = timedelta(seconds=30)
"""What was not looked at for longer may be of yesterday: then every request waits for news, or says the age."""
OLD_WAIT_SECONDS: Final = 15.0
"""How long a request waits for news if the snapshot is old."""
WINDOWS_AGE: Final = timedelta(minutes=1)
LONGEST_WINDOW: Final = timedelta(days=31)
"""How far back windows are looked for that may still be open, and whose run has ended."""
LATE_SECONDS: Final = 120.0
"""How long after a higher number an assessment with a lower one may become visible: as long as a transaction takes."""
LATE_NUMBERS: Final = 10_000
"""How many numbers lower it may be, as far as that is not known by the time: a report stores a whole fleet at once."""
FULL_READ_SECONDS: Final = 300.0
"""How often the states of all machines are read again, not only of those with new assessments."""
_UNEXPECTED: Final = ("it can't be read", "The log of fleetpatch web says why.")


class FleetReader:
    """Reads only what has changed. All threads may share it.

    The first request builds the snapshot. Later ones have it built in the background, and wait a moment for it; longer
    if nobody has looked for a while. If a snapshot is still old then, its problems say so.

    Attributes:
        wait_seconds: how long a request waits for news that does not say it.
    """

    def __init__(self, settings: WebSettings, database: Database, clock: Clock) -> None:
        self.wait_seconds = WAIT_SECONDS
        self._database = database
        self._clock = clock
        self._sources = SourceReader(settings)
        self._trends = TrendsReader(database)
        self._oldest: ThrottledValue[OldUpdate | None] = ThrottledValue()
        self._fits: ThrottledValue[tuple[WindowFit, ...]] = ThrottledValue()
        self._building = threading.Lock()
        self._starting = threading.Lock()
        self._done: threading.Event | None = None
        self._snapshot: FleetSnapshot | None = None
        self._marker: ChangeMarker | None = None
        self._states: dict[str, RecordedState] = {}
        self._last_runs: Mapping[str, LastRun] = {}
        self._enrolment_requests: Mapping[str, EnrolmentRequest] = {}
        self._switches: Mapping[str, UpdaterRequest] = {}
        self._windows: FleetWindows | None = None
        self._ended: frozenset[tuple[str, datetime]] = frozenset()
        self._parts: tuple[object, ...] = ()
        self._numbers: deque[tuple[float, int]] = deque()
        self._readings = 0
        self._looked_at = self._read_all_at = 0.0
        self._true_at = clock.now()
        self._failure = ""

    def read(self, wait_seconds: float | None = None, *, old_wait_seconds: float | None = None) -> FleetSnapshot:
        """Return the fleet. If it is not known how it is now, its problems say how old it is.

        Args:
            wait_seconds: how long to wait for news. None stands for the attribute.
            old_wait_seconds: how long to wait if the snapshot is older than OLD_AGE, unless wait_seconds is longer.
                None stands for OLD_WAIT_SECONDS.

        Raises:
            RecordsError: the records can't be read.
        """
        if self._snapshot is None:
            with self._building:
                if self._snapshot is None:
                    self._build()
        elif not self._is_current():
            seconds = self.wait_seconds if wait_seconds is None else wait_seconds
            longer = OLD_WAIT_SECONDS if old_wait_seconds is None else old_wait_seconds
            self._start_build().wait(max(seconds, longer) if self._is_old() else seconds)
        is_old, snapshot = self._is_old(), self._snapshot  # in this order: a build may end between the two
        assert snapshot is not None  # noqa: S101 - for the type checker
        if not is_old:
            return snapshot
        return replace(snapshot, problems=(self._describe_age(), *snapshot.problems))

    def read_trends(self, days: int) -> dict[date, DayTotals]:
        """Return the fleet on each of the last days, oldest first. Today is the last one.

        Raises:
            RecordsError: the records can't be read.
        """
        return self._trends.read(self._clock.now().astimezone(UTC).date(), days, self._readings)

    def warm_up(self) -> None:
        """Read everything that the first requests need, in the background."""
        threading.Thread(target=self._warm_up, name="fleet", daemon=True).start()

    def _warm_up(self) -> None:
        try:
            self.read()
            self.read_trends(366)  # the newest days first: pages of few days wait only for these
        except Exception:
            logger.exception("the fleet can't be read yet")

    def _is_current(self) -> bool:
        if time.monotonic() - self._looked_at > LOOK_SECONDS or self._are_windows_old(self._clock.now()):
            return False
        if self._oldest.is_due:
            return False
        marker = self._marker
        return marker is not None and read_change_marker(self._database, marker.since) == marker

    def _is_old(self) -> bool:
        return not timedelta(0) <= self._clock.now() - self._true_at <= OLD_AGE

    def _describe_age(self) -> str:
        at, seconds = self._true_at, (self._clock.now() - self._true_at).total_seconds()
        text = f"The fleet is shown as it was at {at.astimezone(UTC):%d %b %Y %H:%M:%S} UTC"
        text += f", {format_known_duration(seconds)} ago" if seconds > 0 else ""
        return f"{text}: {self._failure or 'it takes long to read it. Load the page again.'}"

    def _are_windows_old(self, now: datetime) -> bool:
        return self._windows is None or not timedelta(0) <= now - self._windows.at < WINDOWS_AGE

    def _start_build(self) -> threading.Event:
        """Start a build if none is under way. Return what its end sets."""
        with self._starting:
            if self._done is None or self._done.is_set():
                self._done = threading.Event()
                threading.Thread(
                    target=self._build_in_background, args=(self._done,), name="fleet", daemon=True
                ).start()
            return self._done

    def _build_in_background(self, done: threading.Event) -> None:
        try:
            with self._building:
                self._build()
        except Exception as error:
            # Pages show the last snapshot, and say how old it is.
            message_parts = (error.message, error.hint) if isinstance(error, FleetpatchError) else _UNEXPECTED
            self._failure = "\n    ".join(filter(None, message_parts))
            logger.exception("the state of the fleet can't be read")
        finally:
            done.set()

    def _build(self) -> None:
        now, looked_at = self._clock.now(), time.monotonic()
        sources = self._sources.read(now)
        # The one to keep is read first: what is stored between the two is read again the next time.
        change_marker = read_change_marker(self._database, self._find_since(looked_at))
        before = self._marker
        marker = read_change_marker(self._database, before.since) if before is not None else change_marker
        self._read_records(marker)
        windows = self._windows
        if windows is None or self._last_runs is not self._parts[-1]:
            ended = find_ended_windows(self._database, now - LONGEST_WINDOW)
            windows = windows if ended == self._ended else None
            self._ended = ended
        if windows is None or sources is not self._parts[0] or self._are_windows_old(now):
            windows = find_fleet_windows(sources.zone_schedules, now, self._ended)
        requests = self._read_enrolment_requests()
        switches = self._read_switches()
        parts = (sources, windows, self._states, requests, switches, self._last_runs)
        if self._oldest.is_due or any(
            part is not earlier_part for part, earlier_part in zip_longest(parts, self._parts)
        ):
            names = {machine.name for machine in sources.inventory.machines} if sources.inventory is not None else set()
            oldest = self._oldest.read(
                (self._readings, sources), lambda: find_oldest_update(self._database, names.__contains__)
            )
            fits = self._fits.read(
                (self._readings, sources),
                lambda: tuple(estimate_fits(sources.zone_schedules, read_learned_durations(self._database))),
            )
            self._snapshot = build_snapshot(
                sources, windows, self._states, self._last_runs, oldest, now, fits, requests, switches
            )
        # Last, and all at once: what fails half-way is done again.
        self._parts, self._windows = parts, windows
        self._marker, self._looked_at, self._true_at, self._failure = change_marker, looked_at, now, ""

    def _read_enrolment_requests(self) -> Mapping[str, EnrolmentRequest]:
        """Return what people last asked for on machines that say something of hotpatches; the same object if it is."""
        names = [name for name, state in self._states.items() if state.details.get("hotpatch")]
        requests = SqlHotpatchEnrolments(self._database).read_requests(names) if names else {}
        if requests != self._enrolment_requests:
            self._enrolment_requests = requests
        return self._enrolment_requests

    def _read_switches(self) -> Mapping[str, UpdaterRequest]:
        """Return what people last switched of the systems' own updaters; the same object if it is."""
        switches = SqlMachineOrders(self._database).read_switches()
        if switches != self._switches:
            self._switches = switches
        return self._switches

    def _find_since(self, now: float) -> int:
        """Return a number such that assessments with it or a lower one are all visible.

        Args:
            now: monotonic time in seconds.
        """
        if not self._numbers:
            self._numbers.append((now, read_change_marker(self._database).assessment))
        late = 0.0 if self._database.is_sqlite else LATE_SECONDS  # the writers of SQLite come one after the other
        while len(self._numbers) > 1 and now - self._numbers[1][0] >= late:
            self._numbers.popleft()
        at, number = self._numbers[0]
        return number if now - at >= late else max(0, number - LATE_NUMBERS)

    def _read_records(self, marker: ChangeMarker) -> None:
        """Read what may have changed. What has is another object then."""
        before, now = self._marker, time.monotonic()
        reads_all = before is None or now - self._read_all_at > FULL_READ_SECONDS
        if before == marker and not marker.unfinished_runs and not reads_all:
            return
        if before is None or reads_all or marker.assessment < before.assessment:
            self._states, self._read_all_at = read_machine_states(self._database), now
            self._readings += 1
        elif (marker.assessment, marker.recent) != (before.assessment, before.recent):
            self._states = self._states | read_machine_states(self._database, before.since)
            self._readings += 1
        last_runs = read_last_runs(self._database)
        # A run under way is looked at each second. What pages made of the snapshot is kept while it changes nothing.
        if last_runs != self._last_runs:
            self._last_runs = last_runs
        if self._numbers[-1][1] != marker.assessment:
            self._numbers.append((now, marker.assessment))
