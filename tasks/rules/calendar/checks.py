"""Checks a schedule for faults and probable mistakes before its deployment. Pure."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

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
    """A finding about a schedule that a person should know before the deployment.

    Attributes:
        severity: whether the finding prevents the deployment.
        key: the subject: "length", "expiry", "dates", "clocks", "start" or "days".
        message: a sentence.
        remedy: what to do.
    """

    severity: FindingSeverity
    key: str
    message: str
    remedy: str


def check_schedule(schedule: Schedule, now: datetime) -> list[ScheduleFinding]:
    """Return the faults and surprises of a schedule within the next two years."""
    following = find_occurrences(
        schedule, now + _CHECKED_PERIOD, now + 2 * _CHECKED_PERIOD
    )  # separate years: callers ask for the first year again, and the result is cached
    ahead = [*find_occurrences(schedule, now, now + _CHECKED_PERIOD), *following]
    if not ahead and not has_window_left(schedule, now):
        return [_build_no_window_finding(schedule)]
    faults = [
        _check_length(schedule),
        _check_collisions(ahead),
        _check_start(schedule),
        _check_cron_days(schedule),
        _check_clock_changes(ahead),
    ]
    return [finding for finding in faults if finding is not None]


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


def _check_length(schedule: Schedule) -> ScheduleFinding | None:
    if schedule.minutes >= _MIN_USEFUL_MINUTES:
        return None
    message = f"a window of {format_duration(schedule.minutes * 60)} is too short for an update and for a reboot"
    return ScheduleFinding(
        FindingSeverity.WARNS, "length", message, "Give it an hour or more: a reboot alone is given 15 minutes."
    )


def _check_collisions(ahead: list[Occurrence]) -> ScheduleFinding | None:
    for window, following in itertools.pairwise(ahead):
        if window.end > following.start:
            over = format_duration((window.end - following.start).total_seconds())
            message = f"the window of {window.local_start:%Y-%m-%d %H:%M} ends {over} after the next one opens"
            remedy = "Make the windows shorter, or let them recur less often."
            return ScheduleFinding(FindingSeverity.BLOCKS, "length", message, remedy)
    return None


def _check_start(schedule: Schedule) -> ScheduleFinding | None:
    """Warn when intervals count from a start without a window: then the week is easily mistaken."""
    first = next(iterate_occurrences(schedule, _find_moment_before_start(schedule)), None)
    counts = isinstance(schedule.recurrence, RecurrenceRule) and schedule.recurrence.interval > 1
    if not counts or first is None or first.local_start.date() == schedule.start.date():
        return None
    message = f"it counts from {schedule.start:%Y-%m-%d}, but its first window is {first.local_start:%Y-%m-%d %H:%M}"
    return ScheduleFinding(
        FindingSeverity.WARNS, "start", message, "Let it start on its first date, or leave it if that is meant."
    )


def _check_cron_days(schedule: Schedule) -> ScheduleFinding | None:
    if not isinstance(schedule.recurrence, CronUnion):
        return None
    message = f"cron reads {str(schedule.recurrence)!r} as these days of the month and also these days of the week"
    remedy = 'For "both at once" write for instance "0 22 * * TUE#2" or "Month Second Tuesday".'
    return ScheduleFinding(FindingSeverity.WARNS, "days", message, remedy)


def _check_clock_changes(ahead: list[Occurrence]) -> ScheduleFinding | None:
    touched = [window for window in ahead if window.note]
    if not touched:
        return None
    more = f" (and {len(touched) - _MAX_NOTES_SHOWN} more)" if len(touched) > _MAX_NOTES_SHOWN else ""
    message = "; ".join(window.note for window in touched[:_MAX_NOTES_SHOWN]) + more
    return ScheduleFinding(
        FindingSeverity.WARNS, "clocks", message, "Choose a time outside the hours in which the clocks change."
    )


def _find_moment_before_start(schedule: Schedule) -> datetime:
    """Return a time before the schedule's start in every zone."""
    return schedule.start.replace(tzinfo=UTC) - timedelta(days=2)
