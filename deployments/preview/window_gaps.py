"""Finds long times in which a configuration or a machine has no window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from deployments.preview.upcoming_windows import SEARCH_HORIZON
from deployments.preview.zone_schedules import ZoneSchedule

LONG_GAP = timedelta(days=35)
"""A machine without a window for this time gets updates too late: vendors publish them each month."""


@dataclass(frozen=True, slots=True)
class WindowGap:
    """A long time without a window.

    Attributes:
        name: the configuration or machine.
        start: in UTC.
        end: in UTC; None if no later window is known.
    """

    name: str
    start: datetime
    end: datetime | None


def find_window_gaps(zone_schedules: Sequence[ZoneSchedule], name: str, now: datetime) -> tuple[WindowGap, ...]:
    """Return the long gaps of the next year in which no zone schedule has a window. Windows in a freeze do not count.

    Args:
        zone_schedules: those of one configuration in one zone, or all those of one machine.
        name: the configuration or machine.
        now: the present time, aware.
    """
    now = now.astimezone(UTC)
    until = now + timedelta(days=366)
    longest = timedelta(minutes=max((zone_schedule.schedule.minutes for zone_schedule in zone_schedules), default=0))
    windows = sorted(
        (w.start, w.end)
        for zone_schedule in zone_schedules
        for w in zone_schedule.find_windows(now - longest, until + LONG_GAP)
    )
    spans = [(now, now), *windows]
    gaps = [
        WindowGap(name, end, start)
        for (_, end), (start, _) in pairwise(spans)
        if start - end >= LONG_GAP and end < until
    ]
    if until - spans[-1][1] >= LONG_GAP:
        gaps.append(WindowGap(name, spans[-1][1], _find_next_start(zone_schedules, until)))
    return tuple(gaps)


def _find_next_start(zone_schedules: Sequence[ZoneSchedule], moment: datetime) -> datetime | None:
    windows = (zone_schedule.find_windows(moment, moment + SEARCH_HORIZON) for zone_schedule in zone_schedules)
    return min((each[0].start for each in windows if each), default=None)
