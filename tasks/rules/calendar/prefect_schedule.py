"""A schedule for Prefect: an RRULE where Prefect computes exactly our dates from it, else the dates themselves.

What Prefect 3.8 does with a schedule (measured, and held by a contract test against its own classes): the text of an
RRULE is given to dateutil; the zone of the schedule, not of the text, is put onto each wall time by dateutil's time
zones. These start an hour early where the clocks jump over a time, know no change of the clocks after 2037, and may
differ from Python's own. An interval begins before its anchor when that lies in the future. So nothing is believed:
every candidate is evaluated here as Prefect would do it, and compared with our dates up to the horizon. Where they
differ, the instants are listed in UTC.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from dateutil.rrule import rrulestr
from dateutil.tz import gettz

from tasks.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import to_wall_time
from tasks.rules.calendar.schedule import Occurrence, Schedule, iterate_occurrences
from tasks.rules.calendar.shifted_rule import shift_rule_earlier
from tasks.rules.recurrence.model import EveryHours, RecurrenceRule, render_rrule

COMPARISON_HORIZON = timedelta(days=5 * 366)
MAX_RRULE_LENGTH = 6000
"""Prefect refuses an RRULE of more than 6,500 characters."""
MAX_RDATES = 300
_PREFECT_DEFAULT_DTSTART = datetime(2020, 1, 1)  # noqa: DTZ001 - where Prefect begins with rules that don't say it


class PrefectScheduleKind(StrEnum):
    """In which way Prefect is told."""

    RRULE = "rrule"
    RDATE = "rdate"
    INTERVAL = "interval"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class PrefectSchedule:
    """A schedule for Prefect.

    Attributes:
        kind: which of Prefect's schedules it is. ``rdate`` is an RRule schedule too, with dates in place of a rule;
            ``never`` has nothing to schedule, and Prefect must be given no schedule.
        text: what Prefect's RRule schedule takes; for an interval what it is, for people (ISO 8601).
        zone: the schedule's time zone.
        covered_until: up to here Prefect's dates are the same as ours; send a new schedule before. None: they are the
            same for ever.
        interval: of an interval.
        anchor: of an interval; UTC.
    """

    kind: PrefectScheduleKind
    text: str
    zone: str
    covered_until: datetime | None
    interval: timedelta | None = None
    anchor: datetime | None = None


def build_prefect_schedule(
    schedule: Schedule,
    horizon_start: datetime,
    lead: timedelta = timedelta(),
    freezes: Sequence[Freeze] = (),
    horizon: timedelta = COMPARISON_HORIZON,
) -> PrefectSchedule:
    """Return how Prefect is told to start a run for every window.

    Args:
        schedule: the windows.
        horizon_start: aware; runs that would start before are left out. Prefect starts none in the past.
        lead: runs start so long before their windows open, in real time; whole seconds, not negative.
        freezes: a window that falls into one gets no run.
        horizon: how far dates are compared.

    Raises:
        RequestError: the lead makes no sense.
    """
    if lead < timedelta() or lead % timedelta(seconds=1):
        hint = "Give whole seconds, 0 or more."
        raise RequestError(f"runs can't start {lead.total_seconds():g} s before their windows", hint=hint)
    begin = horizon_start.astimezone(UTC)
    expected = _ExpectedRuns(schedule, begin, begin + horizon, lead, tuple(freezes))
    if next(expected.iterate_runs(), None) is None:
        return PrefectSchedule(PrefectScheduleKind.NEVER, "", "UTC", expected.compute_covered_until())
    for candidate in (_build_interval(expected), _build_hourly_rrule(expected), _build_shifted_rrule(expected)):
        if (
            candidate is not None
            and len(candidate.text) <= MAX_RRULE_LENGTH
            and _is_same_as_expected(candidate, expected)
        ):
            return candidate
    return _build_rdate_schedule(expected)


def is_schedule_current(
    sent: PrefectSchedule,
    schedule: Schedule,
    begin: datetime,
    end: datetime,
    lead: timedelta = timedelta(),
    freezes: Sequence[Freeze] = (),
) -> bool:
    """Return whether what Prefect was told once still says what is meant, from ``begin`` up to ``end`` (aware).

    Texts can't be compared for that: they begin with the dates that were next when they were made. A text that Prefect
    itself could not read, since somebody changed it, says nothing that is meant.
    """
    expected = _ExpectedRuns(schedule, begin.astimezone(UTC), end.astimezone(UTC), lead, tuple(freezes))
    try:
        return _is_same_as_expected(sent, expected)
    except (ValueError, TypeError):  # what dateutil raises for texts that it can't read, or whose times don't match
        return False


def iterate_prefect_starts(sent: PrefectSchedule, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants (UTC) from ``begin`` up to ``end`` at which Prefect would start runs; both aware.

    Prefect tells its dates apart by wall time: of two that show the same, as the clocks are put back, one is left.
    """
    if sent.interval is not None and sent.anchor is not None:
        anchor, every = sent.anchor, sent.interval
        moments = (anchor + number * every for number in itertools.count(-((anchor - begin) // every)))
    elif sent.text:
        zone = gettz(sent.zone)
        moments = (
            wall.replace(tzinfo=zone).astimezone(UTC) for wall in rrulestr(sent.text, dtstart=_PREFECT_DEFAULT_DTSTART)
        )
    else:
        return
    later = itertools.dropwhile(lambda moment: moment < begin, moments)
    seen = set()
    for moment in itertools.takewhile(lambda moment: moment < end, later):
        wall = to_wall_time(moment, sent.zone)
        if wall not in seen:
            seen.add(wall)
            yield moment


@dataclass(frozen=True, slots=True)
class _ExpectedRuns:
    """What Prefect is to be told: runs from ``begin`` on, compared up to ``end``."""

    schedule: Schedule
    begin: datetime
    end: datetime
    lead: timedelta
    freezes: tuple[Freeze, ...]

    def iterate_windows(self) -> Iterator[Occurrence]:
        return iterate_occurrences(self.schedule, self.begin + self.lead, until=self.end + self.lead)

    def iterate_runs(self) -> Iterator[datetime]:
        return (
            window.start - self.lead for window in self.iterate_windows() if find_freeze(window, self.freezes) is None
        )

    def find_frozen_runs(self) -> list[datetime]:
        """Return the runs that freezes take away."""
        if not self.freezes:
            return []
        return [
            window.start - self.lead
            for window in self.iterate_windows()
            if find_freeze(window, self.freezes) is not None
        ]

    def find_last_run(self) -> datetime | None:
        """Return the last run, frozen or not, when the schedule ends before the horizon does."""
        if next(iterate_occurrences(self.schedule, self.end + self.lead), None) is not None:
            return None
        *_, window = self.iterate_windows()
        return window.start - self.lead

    def compute_covered_until(self) -> datetime | None:
        return None if next(iterate_occurrences(self.schedule, self.end + self.lead), None) is None else self.end


def _is_same_as_expected(candidate: PrefectSchedule, expected: _ExpectedRuns) -> bool:
    pairs = itertools.zip_longest(
        iterate_prefect_starts(candidate, expected.begin, expected.end), expected.iterate_runs()
    )
    return all(theirs == ours for theirs, ours in pairs)


def _build_interval(expected: _ExpectedRuns) -> PrefectSchedule | None:
    """Return elapsed hours as an interval: it costs Prefect nothing, however old it gets, but it can't end or pause."""
    recurrence, first = expected.schedule.recurrence, next(expected.iterate_windows()).start - expected.lead
    if (
        not isinstance(recurrence, EveryHours)
        or expected.compute_covered_until() is None
        or expected.find_frozen_runs()
    ):
        return None
    every = timedelta(hours=recurrence.interval)
    anchor = first - every  # from one in the future Prefect counts backwards too, and the comparison refuses it
    text = f"R/{anchor:%Y-%m-%dT%H:%M:%SZ}/PT{recurrence.interval}H"
    return PrefectSchedule(PrefectScheduleKind.INTERVAL, text, "UTC", expected.end, every, anchor)


def _build_hourly_rrule(expected: _ExpectedRuns) -> PrefectSchedule | None:
    recurrence = expected.schedule.recurrence
    if not isinstance(recurrence, EveryHours):
        return None
    return _build_rrule_schedule(expected, f"FREQ=HOURLY;INTERVAL={recurrence.interval}", "UTC")


def _build_shifted_rrule(expected: _ExpectedRuns) -> PrefectSchedule | None:
    recurrence = expected.schedule.recurrence
    moved = (
        shift_rule_earlier(recurrence, expected.schedule.start, expected.lead)
        if isinstance(recurrence, RecurrenceRule)
        else None
    )
    return None if moved is None else _build_rrule_schedule(expected, render_rrule(moved), expected.schedule.zone)


def _build_rrule_schedule(expected: _ExpectedRuns, rule: str, zone: str) -> PrefectSchedule:
    """Return a rule with its first date, its last one when it has one, and the dates that are frozen."""
    first = next(expected.iterate_windows()).start - expected.lead
    last = expected.find_last_run()
    ends = f";UNTIL={_format_wall_time(last, zone)}" if last is not None else ""
    lines = [f"DTSTART:{_format_wall_time(first, zone)}", f"RRULE:{rule}{ends}"]
    skipped = ",".join(_format_wall_time(moment, zone) for moment in expected.find_frozen_runs())
    lines += [f"EXDATE:{skipped}"] if skipped else []
    return PrefectSchedule(PrefectScheduleKind.RRULE, "\n".join(lines), zone, expected.compute_covered_until())


def _build_rdate_schedule(expected: _ExpectedRuns) -> PrefectSchedule:
    runs = list(itertools.islice(expected.iterate_runs(), MAX_RDATES + 1))
    listed = runs[:MAX_RDATES]
    until = runs[MAX_RDATES] if len(runs) > MAX_RDATES else expected.compute_covered_until()
    dates = ",".join(_format_wall_time(moment, "UTC") for moment in listed)
    text = f"DTSTART:{_format_wall_time(runs[0], 'UTC')}\nRDATE:{dates}"
    return PrefectSchedule(PrefectScheduleKind.RDATE, text, "UTC", until)


def _format_wall_time(moment: datetime, zone: str) -> str:
    return f"{to_wall_time(moment, zone):%Y%m%dT%H%M%S}"
