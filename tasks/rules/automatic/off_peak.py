"""Finds the off-peak hours of a day by the clock of a zone, also in nights with a clock change. Pure."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from tasks.domain.model import Window
from tasks.rules.calendar.local_time import get_time_zone, to_wall_time, wall_time_to_utc

_DAY = timedelta(days=1)
_DAYS_TO_SEARCH = 8  # a clock change takes the hours of one night at most; the others are looked at to be sure


def find_off_peak(now: datetime, zone: str, start: time, end: time) -> Window | None:
    """Return the off-peak hours that contain an instant, or None.

    The result is in UTC. Between its start and its end, the machine's clock always shows a time that is in the
    off-peak hours. So with a start or an end that occurs twice, because the clocks are put back, the result is the
    shorter one; and hours that the clocks skip are missing. Equal start and end: all day. ``now`` is aware, ``zone`` an
    IANA name. ``end`` is the first time of day that is no longer off-peak; not later than ``start``: on the next day.
    """
    today = to_wall_time(now, zone).date()
    nights = (_build_night(today + offset * _DAY, zone, start, end) for offset in (-1, 0))
    return next((night for night in nights if night is not None and night.start <= now < night.end), None)


def find_next_off_peak(now: datetime, zone: str, start: time, end: time) -> Window:
    """Return the first off-peak hours that begin after an instant. See ``find_off_peak``."""
    today = to_wall_time(now, zone).date()
    for offset in range(-1, _DAYS_TO_SEARCH):
        night = _build_night(today + offset * _DAY, zone, start, end)
        if night is not None and night.start > now:
            return night
    raise AssertionError("there are off-peak hours in every week")


@lru_cache(maxsize=4096)
def _build_night(day: date, zone: str, start: time, end: time) -> Window | None:
    """Return the off-peak hours that begin on a day, or None when the clocks skip all of them."""
    opens = datetime.combine(day, start)
    if start == end:
        return Window(wall_time_to_utc(opens, zone)[0], wall_time_to_utc(opens + _DAY, zone)[0], zone)
    begin = _list_instants(opens, zone)[-1]
    ends = _list_instants(datetime.combine(day if start < end else day + _DAY, end), zone)
    finish = next((instant for instant in ends if instant > begin), None)
    return None if finish is None else Window(begin, finish, zone)


def _list_instants(wall: datetime, zone: str) -> tuple[datetime, ...]:
    """Return the instants of a wall time, the first one first: two if it occurs twice; skipped: the first one after."""
    first, _ = wall_time_to_utc(wall, zone)
    second = wall.replace(tzinfo=get_time_zone(zone), fold=1).astimezone(UTC)
    return (first, second) if second > first else (first,)
