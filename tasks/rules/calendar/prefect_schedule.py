"""Builds a Prefect schedule: an RRULE if Prefect computes exactly the right dates from it, else a list. Pure.

Prefect 3.8 does this with a schedule (measured; a contract test checks it with Prefect's own classes): dateutil parses
the RRULE text. Then dateutil's time zones apply the zone of the schedule, not of the text, to each wall time. These
zones are an hour early for skipped times, have no clock changes after 2037, and may differ from Python's own zones. An
interval with an anchor in the future begins before the anchor. So each candidate is evaluated here as Prefect would
do it, and compared with the schedule's dates up to the horizon. If they differ, the schedule lists the instants in UTC.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from dateutil.rrule import rrulestr
from dateutil.tz import gettz

from tasks.errors import RequestError
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import to_wall_time
from tasks.rules.calendar.schedule import Occurrence, Schedule, iterate_occurrences
from tasks.rules.recurrence.expansion import find_anchor, list_times_of_day, to_explicit_rule
from tasks.rules.recurrence.model import EveryHours, Frequency, RecurrenceRule, Weekday, render_rrule

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
        zone: time zone of the schedule.
        covered_until: up to this time Prefect's dates are equal to the schedule's; send a new schedule before it. None:
            they are always equal.
        interval: interval, for the kind ``interval``.
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
    seen = set()
    for moment in itertools.takewhile(lambda moment: moment < end, later):
        wall = to_wall_time(moment, sent.zone)
        if wall not in seen:
            seen.add(wall)
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

    def iterate_runs(self) -> Iterator[datetime]:
        return (
            window.start - self.lead for window in self.iterate_windows() if find_freeze(window, self.freezes) is None
        )

    def find_frozen_runs(self) -> list[datetime]:
        """Return the starts of the runs that freezes prevent."""
        if not self.freezes:
            return []
        return [
            window.start - self.lead
            for window in self.iterate_windows()
            if find_freeze(window, self.freezes) is not None
        ]

    def find_last_run(self) -> datetime | None:
        """Return the start of the last run, frozen or not, if the schedule ends before the horizon; else None."""
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
    """Return elapsed hours as an interval. It stays fast for Prefect at any age, but has no end and no exceptions."""
    recurrence, first = expected.schedule.recurrence, next(expected.iterate_windows()).start - expected.lead
    if (
        not isinstance(recurrence, EveryHours)
        or expected.compute_covered_until() is None
        or expected.find_frozen_runs()
    ):
        return None
    every = timedelta(hours=recurrence.interval)
    anchor = first - every  # with an anchor in the future, Prefect also counts backwards, and the comparison fails
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
    """Return an RRULE schedule with the first date, the last date if there is one, and the frozen dates as EXDATE."""
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


_SHORTEST_MONTH_DAYS = 28
"""Every month has these days. Within them, a shifted date exists if and only if the original date exists."""


_REFERENCE_DAY = date(2000, 1, 15)


def shift_rule_earlier(rule: RecurrenceRule, start: datetime, lead: timedelta) -> RecurrenceRule | None:
    """Return the rule for dates that are ``lead`` before the dates of a rule, without offset, count and end.

    The result has explicit days. Its time of day comes from its first date, unless there are several times per day.

    Args:
        rule: the rule of the windows.
        start: the wall time from which the rule's intervals count.
        lead: 0 or more.
    """
    whole = to_explicit_rule(rule, find_anchor(rule, start))
    if len({weekday.nth == 0 for weekday in rule.weekdays}) > 1:
        return None  # dateutil combines "every Monday and the second Tuesday" with "and", and searches to year 9999
    moved = [datetime.combine(_REFERENCE_DAY, moment) - lead for moment in list_times_of_day(rule, start)]
    days = {(moment.date() - _REFERENCE_DAY).days for moment in moved}
    minutes = {(moment.minute, moment.second, moment.microsecond) for moment in moved}
    if len(days) > 1 or (len(moved) > 1 and (len(minutes) > 1 or moved[0].second or moved[0].microsecond)):
        return None
    several = len(moved) > 1
    hours = tuple(sorted(moment.hour for moment in moved)) if several else ()
    plain = replace(whole, hours=hours, minute=moved[0].minute if several else None, offset=0, count=None, until=None)
    shift = rule.offset + days.pop()
    return plain if shift == 0 else _shift_days(plain, shift)


def _shift_days(rule: RecurrenceRule, shift: int) -> RecurrenceRule | None:
    if rule.positions:
        return None
    if rule.frequency in {Frequency.DAILY, Frequency.WEEKLY}:
        if rule.months or rule.month_days:
            return None
        weeks = rule.frequency is Frequency.WEEKLY and rule.interval > 1
        week_start = (rule.week_start + shift) % 7 if weeks else 0
        return replace(rule, weekdays=_shift_weekdays(rule.weekdays, shift), week_start=week_start)
    if rule.frequency is Frequency.MONTHLY or rule.months:
        return _shift_month_rule(rule, shift)
    return None


def _shift_weekdays(weekdays: Iterable[Weekday], shift: int) -> tuple[Weekday, ...]:
    return tuple(sorted(Weekday((weekday.day + shift) % 7) for weekday in weekdays))


def _shift_month_rule(rule: RecurrenceRule, shift: int) -> RecurrenceRule | None:
    """Express the n-th weekday as a weekday within seven days of the month, and shift these days."""
    days = set(rule.month_days)
    weekdays = rule.weekdays
    if weekdays:
        nth = weekdays[0].nth
        if len(weekdays) > 1 or nth == 0 or rule.month_days:
            return None
        days = set(range(7 * nth - 6, 7 * nth + 1)) if nth > 0 else set(range(7 * nth, 7 * nth + 7))
    moved = {_shift_month_day(day, shift, whole=rule.interval == 1 and not rule.months) for day in days}
    if None in moved:
        return None
    return replace(
        rule,
        month_days=tuple(sorted(day for day in moved if day is not None)),
        weekdays=_shift_weekdays(weekdays, shift),
    )


def _shift_month_day(day: int, shift: int, *, whole: bool) -> int | None:
    """Return the shifted day of the month. ``whole``: it may be in another month, since every month has a window."""
    moved = day + shift
    if day > 0:
        if 1 <= moved <= _SHORTEST_MONTH_DAYS and day <= _SHORTEST_MONTH_DAYS:
            return moved
        return moved - 1 if whole and -_SHORTEST_MONTH_DAYS < moved <= 0 else None
    if -_SHORTEST_MONTH_DAYS <= moved <= -1 and day >= -_SHORTEST_MONTH_DAYS:
        return moved
    return moved + 1 if whole and 0 <= moved < _SHORTEST_MONTH_DAYS else None
