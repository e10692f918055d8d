"""How Prefect's scheduler is told the same: an RRULE where it comes to exactly our dates, else the dates themselves.

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
from tasks.rules.calendar.clocks import wall_at
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.calendar.kinds import Hours, Rule, rrule_text
from tasks.rules.calendar.schedule import Occurrence, Schedule, occurrences
from tasks.rules.calendar.shifted import earlier

HORIZON = timedelta(days=5 * 366)
MAX_TEXT = 6000
"""Prefect refuses an RRULE of more than 6,500 characters."""
MAX_DATES = 300
_PREFECTS_START = datetime(2020, 1, 1)  # noqa: DTZ001 - where Prefect begins with rules that don't say it


class SpokenKind(StrEnum):
    """In which way Prefect is told."""

    RRULE = "rrule"
    RDATE = "rdate"
    INTERVAL = "interval"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Spoken:
    """A schedule for Prefect.

    Attributes:
        kind: which of Prefect's schedules it is. ``rdate`` is an RRule schedule too, with dates in place of a rule;
            ``never`` has nothing to schedule, and Prefect must be given no schedule.
        text: what Prefect's RRule schedule takes; for an interval what it is, for people (ISO 8601).
        zone: the schedule's time zone.
        until: the first moment of which nothing is promised: what was told was compared with our dates up to here, or
            ends here. Tell it anew before. None: all is told, for ever.
        every: of an interval.
        anchor: of an interval; UTC.
    """

    kind: SpokenKind
    text: str
    zone: str
    until: datetime | None
    every: timedelta | None = None
    anchor: datetime | None = None


def spoken(
    schedule: Schedule,
    horizon_start: datetime,
    lead: timedelta = timedelta(),
    freezes: Sequence[Freeze] = (),
    horizon: timedelta = HORIZON,
) -> Spoken:
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
    wish = _Wish(schedule, begin, begin + horizon, lead, tuple(freezes))
    if next(wish.runs(), None) is None:
        return Spoken(SpokenKind.NEVER, "", "UTC", wish.until())
    for candidate in (_interval(wish), _hourly(wish), _rule(wish)):
        if candidate is not None and len(candidate.text) <= MAX_TEXT and _same(candidate, wish):
            return candidate
    return _dates(wish)


def agrees(
    told: Spoken,
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
    wish = _Wish(schedule, begin.astimezone(UTC), end.astimezone(UTC), lead, tuple(freezes))
    try:
        return _same(told, wish)
    except (ValueError, TypeError):  # what dateutil raises for texts that it can't read, or whose times don't match
        return False


def prefect_would(told: Spoken, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants (UTC) from ``begin`` up to ``end`` at which Prefect would start runs; both aware.

    Prefect tells its dates apart by wall time: of two that show the same, as the clocks are put back, one is left.
    """
    if told.every is not None and told.anchor is not None:
        anchor, every = told.anchor, told.every
        moments = (anchor + number * every for number in itertools.count(-((anchor - begin) // every)))
    elif told.text:
        zone = gettz(told.zone)
        moments = (wall.replace(tzinfo=zone).astimezone(UTC) for wall in rrulestr(told.text, dtstart=_PREFECTS_START))
    else:
        return
    later = itertools.dropwhile(lambda moment: moment < begin, moments)
    seen = set()
    for moment in itertools.takewhile(lambda moment: moment < end, later):
        wall = wall_at(moment, told.zone)
        if wall not in seen:
            seen.add(wall)
            yield moment


@dataclass(frozen=True, slots=True)
class _Wish:
    """What Prefect is to be told: runs from ``begin`` on, compared up to ``end``."""

    schedule: Schedule
    begin: datetime
    end: datetime
    lead: timedelta
    freezes: tuple[Freeze, ...]

    def windows(self) -> Iterator[Occurrence]:
        return occurrences(self.schedule, self.begin + self.lead, until=self.end + self.lead)

    def runs(self) -> Iterator[datetime]:
        return (window.start - self.lead for window in self.windows() if frozen(window, self.freezes) is None)

    def left_out(self) -> list[datetime]:
        """Return the runs that freezes take away."""
        if not self.freezes:
            return []
        return [window.start - self.lead for window in self.windows() if frozen(window, self.freezes) is not None]

    def last(self) -> datetime | None:
        """Return the last run, frozen or not, when the schedule ends before the horizon does."""
        if next(occurrences(self.schedule, self.end + self.lead), None) is not None:
            return None
        *_, window = self.windows()
        return window.start - self.lead

    def until(self) -> datetime | None:
        return None if next(occurrences(self.schedule, self.end + self.lead), None) is None else self.end


def _same(candidate: Spoken, wish: _Wish) -> bool:
    pairs = itertools.zip_longest(prefect_would(candidate, wish.begin, wish.end), wish.runs())
    return all(theirs == ours for theirs, ours in pairs)


def _interval(wish: _Wish) -> Spoken | None:
    """Return elapsed hours as an interval: it costs Prefect nothing, however old it gets, but it can't end or pause."""
    recurrence, first = wish.schedule.recurrence, next(wish.windows()).start - wish.lead
    if not isinstance(recurrence, Hours) or wish.until() is None or wish.left_out():
        return None
    every = timedelta(hours=recurrence.every)
    anchor = first - every  # from one in the future Prefect counts backwards too, and the comparison refuses it
    text = f"R/{anchor:%Y-%m-%dT%H:%M:%SZ}/PT{recurrence.every}H"
    return Spoken(SpokenKind.INTERVAL, text, "UTC", wish.end, every, anchor)


def _hourly(wish: _Wish) -> Spoken | None:
    recurrence = wish.schedule.recurrence
    if not isinstance(recurrence, Hours):
        return None
    return _written(wish, f"FREQ=HOURLY;INTERVAL={recurrence.every}", "UTC")


def _rule(wish: _Wish) -> Spoken | None:
    recurrence = wish.schedule.recurrence
    moved = earlier(recurrence, wish.schedule.start, wish.lead) if isinstance(recurrence, Rule) else None
    return None if moved is None else _written(wish, rrule_text(moved), wish.schedule.zone)


def _written(wish: _Wish, rule: str, zone: str) -> Spoken:
    """Return a rule with its first date, its last one when it has one, and the dates that are frozen."""
    first = next(wish.windows()).start - wish.lead
    last = wish.last()
    ends = f";UNTIL={_stamp(last, zone)}" if last is not None else ""
    lines = [f"DTSTART:{_stamp(first, zone)}", f"RRULE:{rule}{ends}"]
    skipped = ",".join(_stamp(moment, zone) for moment in wish.left_out())
    lines += [f"EXDATE:{skipped}"] if skipped else []
    return Spoken(SpokenKind.RRULE, "\n".join(lines), zone, wish.until())


def _dates(wish: _Wish) -> Spoken:
    runs = list(itertools.islice(wish.runs(), MAX_DATES + 1))
    listed = runs[:MAX_DATES]
    until = runs[MAX_DATES] if len(runs) > MAX_DATES else wish.until()
    text = f"DTSTART:{_stamp(runs[0], 'UTC')}\nRDATE:{','.join(_stamp(moment, 'UTC') for moment in listed)}"
    return Spoken(SpokenKind.RDATE, text, "UTC", until)


def _stamp(moment: datetime, zone: str) -> str:
    return f"{wall_at(moment, zone):%Y%m%dT%H%M%S}"
