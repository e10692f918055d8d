"""The next windows of all configurations: when they open, when their runs start, and what is in their way."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from deployments.config.lanes import Lane, common_machines
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.calendar.schedule import Occurrence, occurrences
from tasks.rules.calendar.spoken import prefect_would, spoken

LONG = timedelta(days=35)
"""A machine that has no window for so long falls behind: vendors publish every month, and people need some days."""

_FURTHEST = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Coming:
    """One window.

    Attributes:
        lane: whose it is.
        window: UTC.
        run_start: when its run should start: so much before as the configuration's lead says; UTC.
        by_schedule: whether what Prefect is told now starts a run just then.
        too_late: whether that moment is over.
        freeze: what takes the window away, or None.
        meets: names of configurations that have a window open at the same time on a machine of this one.
        now: whether it is open already.
    """

    lane: Lane
    window: Occurrence
    run_start: datetime
    by_schedule: bool
    too_late: bool
    freeze: Freeze | None
    meets: tuple[str, ...]
    now: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """A long time without a window.

    Attributes:
        name: of the configuration or machine.
        start: UTC.
        end: UTC; None when no window comes after it, as far as anybody can see.
    """

    name: str
    start: datetime
    end: datetime | None


def coming(lanes: Sequence[Lane], now: datetime, count: int) -> tuple[Coming, ...]:
    """Return the next windows, those that are open now first.

    Args:
        lanes: what to look at.
        now: aware.
        count: so many, those that a freeze takes away included.
    """
    now = now.astimezone(UTC)
    streams = [_from_now(lane, number, now) for number, lane in enumerate(lanes)]
    merged = heapq.merge(*streams, key=lambda pair: (pair[0].start, pair[1]))
    chosen = [(lanes[number], window) for (window, number), _ in zip(merged, range(count), strict=False)]
    seen = {id(lane): lane for lane, _ in chosen}
    starts = {key: _prefect_starts(lane, now, chosen) for key, lane in seen.items()}
    others = {key: [other for other in lanes if common_machines(lane, other)] for key, lane in seen.items()}
    return tuple(_one(lane, window, now, starts[id(lane)], others[id(lane)]) for lane, window in chosen)


def _from_now(lane: Lane, number: int, now: datetime) -> Iterator[tuple[Occurrence, int]]:
    length = timedelta(minutes=lane.schedule.minutes)
    for window in occurrences(lane.schedule, now - length, until=now + _FURTHEST):
        if window.end > now:
            yield window, number


def _prefect_starts(lane: Lane, now: datetime, chosen: Sequence[tuple[Lane, Occurrence]]) -> frozenset[datetime]:
    lead = timedelta(minutes=lane.configuration.lead_minutes)
    last = max(window.start for other, window in chosen if other is lane)
    told = spoken(lane.schedule, now, lead, lane.freezes)
    return frozenset(prefect_would(told, now, last - lead + timedelta(minutes=1)))


def _one(lane: Lane, window: Occurrence, now: datetime, starts: frozenset[datetime], others: Iterable[Lane]) -> Coming:
    run_start = window.start - timedelta(minutes=lane.configuration.lead_minutes)
    freeze = frozen(window, lane.freezes)
    met = [other.configuration.name for other in others if freeze is None and _meets(window, other)]
    return Coming(
        lane=lane,
        window=window,
        run_start=run_start,
        by_schedule=run_start in starts,
        too_late=run_start < now,
        freeze=freeze,
        meets=tuple(dict.fromkeys(met)),
        now=window.start <= now,
    )


def _meets(window: Occurrence, other: Lane) -> bool:
    before = window.start - timedelta(minutes=other.schedule.minutes)
    return any(each.end > window.start for each in other.opening(before, window.end))


def long_gaps(lanes: Sequence[Lane], name: str, now: datetime) -> tuple[Gap, ...]:
    """Return the long times of the coming year in which none of some lanes has a window, freezes taken into account.

    Args:
        lanes: of one configuration in one zone, or all those of one machine.
        name: whose gaps they are.
        now: aware.
    """
    now = now.astimezone(UTC)
    until = now + timedelta(days=366)
    longest = timedelta(minutes=max((lane.schedule.minutes for lane in lanes), default=0))
    windows = sorted((w.start, w.end) for lane in lanes for w in lane.opening(now - longest, until + LONG))
    spans = [(now, now), *windows]
    found = [Gap(name, end, start) for (_, end), (start, _) in pairwise(spans) if start - end >= LONG and end < until]
    if until - spans[-1][1] >= LONG:
        found.append(Gap(name, spans[-1][1], _next_after(lanes, until)))
    return tuple(found)


def _next_after(lanes: Sequence[Lane], moment: datetime) -> datetime | None:
    windows = (lane.opening(moment, moment + _FURTHEST) for lane in lanes)
    return min((each[0].start for each in windows if each), default=None)
