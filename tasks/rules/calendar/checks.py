"""Checks a schedule for faults and probable mistakes before its deployment. Pure."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from inventory.data_class import dataclass
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.calendar.schedule import Occurrence, Schedule, find_occurrences, has_window_left, iterate_occurrences
from tasks.rules.recurrence.model import CronUnion, RecurrenceRule

_CHECKED_PERIOD = timedelta(days=366)
_MIN_USEFUL_MINUTES = 10  # a reboot alone gets 15 minutes; Azure starts no update with less than 15 minutes left
_MAX_NOTES_SHOWN = 3


class FindingSeverity(StrEnum):
    """The effect of a finding on its configuration."""

    BLOCKS = "blocks"
    WARNS = "warns"


@dataclass(frozen=True, slots=True)
class ScheduleFinding:
    """A finding about a schedule that a person should know before the deployment."""

    severity: FindingSeverity
    key: str  # the subject: "length", "expiry", "dates", "clocks", "start" or "days"
    message: str
    remedy: str


def check_schedule(schedule: Schedule, now: datetime) -> list[ScheduleFinding]:
    """Return the faults and surprises of a schedule within the next two years."""
    # separate years: callers ask for the first year again, and the result is cached
    following = find_occurrences(schedule, now + _CHECKED_PERIOD, now + 2 * _CHECKED_PERIOD)
    ahead = [*find_occurrences(schedule, now, now + _CHECKED_PERIOD), *following]
    if not ahead and not has_window_left(schedule, now):
        return [_build_no_window_finding(schedule)]
    return list(_iterate_faults(schedule, ahead))


def _build_no_window_finding(schedule: Schedule) -> ScheduleFinding:
    first = next(iterate_occurrences(schedule, _find_moment_before_start(schedule)), None)
    if first is None:
        message = f"{str(schedule.recurrence)!r} from {schedule.start:%Y-%m-%d %H:%M} on never has a window"
        remedy = "Look for a day that its month doesn't have, or an expiry before the first window."
        return ScheduleFinding(FindingSeverity.BLOCKS, "dates", message, remedy)
    message = "its last window is over: it patches nothing any more"
    return ScheduleFinding(
        FindingSeverity.WARNS, "expiry", message, "Give it a later window, or remove the configuration."
    )


def _iterate_faults(schedule: Schedule, ahead: list[Occurrence]) -> Iterator[ScheduleFinding]:
    warns, blocks = FindingSeverity.WARNS, FindingSeverity.BLOCKS
    if schedule.minutes < _MIN_USEFUL_MINUTES:
        message = f"a window of {format_duration(schedule.minutes * 60)} is too short for an update and for a reboot"
        yield ScheduleFinding(warns, "length", message, "Give it an hour or more: a reboot alone is given 15 minutes.")
    pairs = ((window, following) for window, following in itertools.pairwise(ahead) if window.end > following.start)
    for window, following in itertools.islice(pairs, 1):
        over = format_duration((window.end - following.start).total_seconds())
        message = f"the window of {window.local_start:%Y-%m-%d %H:%M} ends {over} after the next one opens"
        yield ScheduleFinding(blocks, "length", message, "Make the windows shorter, or let them recur less often.")
    recurrence, start = schedule.recurrence, schedule.start
    first = next(iterate_occurrences(schedule, _find_moment_before_start(schedule)), None)
    counts = isinstance(recurrence, RecurrenceRule) and recurrence.interval > 1
    # if intervals count from a start without a window, the week is easily mistaken
    if counts and first is not None and first.local_start.date() != start.date():
        message = f"it counts from {start:%Y-%m-%d}, but its first window is {first.local_start:%Y-%m-%d %H:%M}"
        yield ScheduleFinding(warns, "start", message, "Let it start on its first date, or leave it if that is meant.")
    if isinstance(recurrence, CronUnion):
        message = f"cron reads {str(recurrence)!r} as these days of the month and also these days of the week"
        remedy = 'For "both at once" write for instance "0 22 * * TUE#2" or "Month Second Tuesday".'
        yield ScheduleFinding(warns, "days", message, remedy)
    notes = [window.note for window in ahead if window.note]
    if notes:
        more = f" (and {len(notes) - _MAX_NOTES_SHOWN} more)" if len(notes) > _MAX_NOTES_SHOWN else ""
        message = "; ".join(notes[:_MAX_NOTES_SHOWN]) + more
        yield ScheduleFinding(warns, "clocks", message, "Choose a time outside the hours in which the clocks change.")


def _find_moment_before_start(schedule: Schedule) -> datetime:
    """Return a time before the schedule's start in every zone."""
    return schedule.start.replace(tzinfo=UTC) - timedelta(days=2)
