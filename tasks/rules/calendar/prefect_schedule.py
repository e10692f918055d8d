"""Builds a Prefect schedule: an RRULE if Prefect computes exactly the right dates from it, else a list. Pure.

Prefect 3.8 does this with a schedule (measured; a contract test checks it with Prefect's own classes): dateutil parses
the RRULE text. Then dateutil's time zones apply the zone of the schedule, not of the text, to each wall time. These
zones are an hour early for skipped times, have no clock changes after 2037, and may differ from Python's own zones. An
interval with an anchor in the future begins before the anchor. So each candidate is evaluated here as Prefect would
do it, and compared with the schedule's dates up to the horizon. If they differ, the schedule lists the instants in UTC.
"""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from dateutil.rrule import rrulestr
from dateutil.tz import gettz

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import to_wall_time
from tasks.rules.calendar.schedule import Occurrence, Schedule, iterate_occurrences
from tasks.rules.recurrence.expansion import shift_rule_earlier
from tasks.rules.recurrence.model import EveryHours, RecurrenceRule, render_rrule

COMPARISON_HORIZON = timedelta(days=5 * 366)
MAX_RRULE_LENGTH = 6000
"""Prefect refuses an RRULE of more than 6,500 characters."""
MAX_RDATES = 300
_PREFECT_DEFAULT_DTSTART = datetime(2020, 1, 1)  # noqa: DTZ001 - where Prefect begins with rules that don't say it


class PrefectScheduleKind(StrEnum):
    """The kinds of Prefect schedule."""

    RRULE = "rrule"
    RDATE = "rdate"
    INTERVAL = "interval"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class PrefectSchedule:
    """A schedule for Prefect.

    Attributes:
        kind: the kind of Prefect schedule. ``rdate`` is an RRule schedule with dates instead of a rule. ``never`` has
            nothing to schedule: give Prefect no schedule.
        text: text for Prefect's RRule schedule; for an interval, its description (ISO 8601) for display.
        covered_until: up to this time Prefect's dates are equal to the schedule's; send a new schedule before it. None:
            they are always equal.
        anchor: anchor in UTC, for the kind ``interval``.
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
    """Return the Prefect schedule that starts a run for each window.

    Args:
        schedule: the schedule of the windows.
        horizon_start: aware; earlier runs are left out. Prefect starts no runs in the past.
        lead: time between the start of a run and its window, in elapsed time; whole seconds, not negative.
        freezes: a window that overlaps a freeze gets no run.
        horizon: period in which the dates are compared.

    Raises:
        RequestError: the lead is invalid.
    """
    if lead < timedelta() or lead % timedelta(seconds=1):
        hint = "Give whole seconds, 0 or more."
        raise RequestError(f"runs can't start {lead.total_seconds():g} s before their windows", hint=hint)
    begin = horizon_start.astimezone(UTC)
    expected = _ExpectedRuns(schedule, begin, begin + horizon, lead, tuple(freezes))
    if next(expected.iterate_runs(), None) is None:
        return PrefectSchedule(PrefectScheduleKind.NEVER, "", "UTC", expected.compute_covered_until())
    for candidate in _build_candidates(expected):
        if len(candidate.text) <= MAX_RRULE_LENGTH and _is_same_as_expected(candidate, expected):
            return candidate
    runs = list(itertools.islice(expected.iterate_runs(), MAX_RDATES + 1))
    listed = runs[:MAX_RDATES]
    until = runs[MAX_RDATES] if len(runs) > MAX_RDATES else expected.compute_covered_until()
    dates = ",".join(_format_wall_time(moment, "UTC") for moment in listed)
    text = f"DTSTART:{_format_wall_time(runs[0], 'UTC')}\nRDATE:{dates}"
    return PrefectSchedule(PrefectScheduleKind.RDATE, text, "UTC", until)


def is_schedule_current(
    sent: PrefectSchedule,
    schedule: Schedule,
    begin: datetime,
    end: datetime,
    lead: timedelta = timedelta(),
    freezes: Sequence[Freeze] = (),
) -> bool:
    """Return whether an earlier Prefect schedule still has the dates of a schedule, from ``begin`` to ``end`` (aware).

    A comparison of texts is not enough: a text begins with the next date at the time when it was made. A text that
    dateutil can't parse, because a person changed it, is not current.
    """
    expected = _ExpectedRuns(schedule, begin.astimezone(UTC), end.astimezone(UTC), lead, tuple(freezes))
    try:
        return _is_same_as_expected(sent, expected)
    except (ValueError, TypeError):  # dateutil raises these for invalid texts, or for times that don't match
        return False


def iterate_prefect_starts(sent: PrefectSchedule, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants (UTC) from ``begin`` up to ``end``, both aware, at which Prefect would start runs.

    Prefect identifies dates by wall time: of two instants with the same wall time (clocks put back), it keeps one.
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
    wall_times = set()
    for moment in itertools.takewhile(lambda moment: moment < end, later):
        wall = to_wall_time(moment, sent.zone)
        if wall not in wall_times:
            wall_times.add(wall)
            yield moment


@dataclass(frozen=True, slots=True)
class _ExpectedRuns:
    """The runs that Prefect must start, from ``begin`` up to ``end``."""

    schedule: Schedule
    begin: datetime
    end: datetime
    lead: timedelta
    freezes: tuple[Freeze, ...]

    def iterate_windows(self) -> Iterator[Occurrence]:
        return iterate_occurrences(self.schedule, self.begin + self.lead, until=self.end + self.lead)

    def iterate_runs(self, *, frozen: bool = False) -> Iterator[datetime]:
        """Yield the starts of the runs, or of those that freezes prevent."""
        for window in self.iterate_windows() if self.freezes or not frozen else ():
            if (find_freeze(window, self.freezes) is not None) is frozen:
                yield window.start - self.lead

    def compute_covered_until(self) -> datetime | None:
        """Return the end of the horizon; None if the schedule ends before it."""
        return None if next(iterate_occurrences(self.schedule, self.end + self.lead), None) is None else self.end


def _is_same_as_expected(candidate: PrefectSchedule, expected: _ExpectedRuns) -> bool:
    pairs = itertools.zip_longest(
        iterate_prefect_starts(candidate, expected.begin, expected.end), expected.iterate_runs()
    )
    return all(prefect_start == expected_start for prefect_start, expected_start in pairs)


def _build_candidates(expected: _ExpectedRuns) -> Iterator[PrefectSchedule]:
    """Yield schedules that go on after the horizon, without a list of dates. Their dates may be wrong."""
    schedule, recurrence = expected.schedule, expected.schedule.recurrence
    if isinstance(recurrence, EveryHours):
        endless = (
            expected.compute_covered_until() is not None and next(expected.iterate_runs(frozen=True), None) is None
        )
        if endless:  # an interval stays fast for Prefect at any age, but has no end and no exceptions
            every = timedelta(hours=recurrence.interval)
            # With an anchor in the future, Prefect also counts backwards, and the comparison fails.
            anchor = next(expected.iterate_windows()).start - expected.lead - every
            text = f"R/{anchor:%Y-%m-%dT%H:%M:%SZ}/PT{recurrence.interval}H"
            yield PrefectSchedule(PrefectScheduleKind.INTERVAL, text, "UTC", expected.end, every, anchor)
        yield _build_rrule_schedule(expected, f"FREQ=HOURLY;INTERVAL={recurrence.interval}", "UTC")
    elif isinstance(recurrence, RecurrenceRule):
        moved = shift_rule_earlier(recurrence, schedule.start, expected.lead)
        if moved is not None:
            yield _build_rrule_schedule(expected, render_rrule(moved), schedule.zone)


def _build_rrule_schedule(expected: _ExpectedRuns, rule: str, zone: str) -> PrefectSchedule:
    """Return an RRULE schedule with the first date, the last date if there is one, and the frozen dates as EXDATE."""
    until = expected.compute_covered_until()
    windows = list(itertools.islice(expected.iterate_windows(), None if until is None else 1))
    first, last = (_format_wall_time(window.start - expected.lead, zone) for window in (windows[0], windows[-1]))
    lines = [f"DTSTART:{first}", f"RRULE:{rule}" + (f";UNTIL={last}" if until is None else "")]
    skipped = ",".join(_format_wall_time(moment, zone) for moment in expected.iterate_runs(frozen=True))
    lines += [f"EXDATE:{skipped}"] if skipped else []
    return PrefectSchedule(PrefectScheduleKind.RRULE, "\n".join(lines), zone, until)


def _format_wall_time(moment: datetime, zone: str) -> str:
    return f"{to_wall_time(moment, zone):%Y%m%dT%H%M%S}"
