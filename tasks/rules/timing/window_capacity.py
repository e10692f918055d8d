"""Estimates whether all machines of a run fit into its window. Pure.

The estimate follows the engine: waves come one after the other, so many machines at once; in a set, and of those that
share a resource with a limit, so many;
nothing is installed past the machine's cut-off. It assumes that each machine has updates and that none fails.
"""

import heapq
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import ceil

from inventory.data_class import dataclass

MAX_AT_ONCE = 500
"""The largest number of machines at once that a request may have."""
_ROUNDING_MINUTES = 5


@dataclass(frozen=True, slots=True)
class MachineDuration:
    """How long the turn of a machine takes, in seconds."""

    install_seconds: float  # until its last transaction ends: download and installation
    total_seconds: float  # with its reboot and validation. So long it occupies one of the places.
    reserve_seconds: float = 0.0  # how long before the window's end its installation must have ended


@dataclass(frozen=True, slots=True)
class TurnLimit:
    """So many of these machines have their turn at the same time: members of a set, or users of one resource."""

    members: tuple[str, ...]
    at_once: int


@dataclass(frozen=True, slots=True)
class PatchWork:
    """The work of a run."""

    waves: tuple[tuple[str, ...], ...]  # names of machines, in the order of their turns
    turns: Mapping[str, MachineDuration]
    limits: tuple[TurnLimit, ...] = ()
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WindowCapacity:
    """Whether a run fits into its window, and what would do.

    Attributes:
        needed_at_once: the smallest number of machines at once that is enough in the same window; None: no number is,
            because waves, pauses, sets or single machines take longer.
        needed_minutes: the length of the window that is enough with the present number at once; at most 4 more minutes
            than needed.
    """

    machines: int
    fitting: int
    needed_at_once: int | None
    needed_minutes: int

    @property
    def fits(self) -> bool:
        """Whether all machines are installed in time."""
        return self.fitting == self.machines


def estimate_capacity(work: PatchWork, window_seconds: float, at_once: int) -> WindowCapacity:
    """Return whether a run fits into its window, and which number at once or which length would do."""
    in_time, needed_seconds = _count_in_time(work, window_seconds, at_once)
    machines = len(work.turns)
    return WindowCapacity(
        machines,
        in_time,
        at_once if in_time == machines else _find_enough(work, window_seconds),
        ceil(needed_seconds / 60 / _ROUNDING_MINUTES) * _ROUNDING_MINUTES,
    )


def _find_enough(work: PatchWork, window_seconds: float) -> int | None:
    """Return the smallest number at once that is enough. More at once never take longer."""
    numbers = range(1, MAX_AT_ONCE + 1)

    def is_enough(at_once: int) -> bool:
        return _count_in_time(work, window_seconds, at_once)[0] == len(work.turns)

    index = bisect_left(numbers, x=True, key=is_enough)
    return numbers[index] if index < len(numbers) else None


def _count_in_time(work: PatchWork, window_seconds: float, at_once: int) -> tuple[int, float]:
    """Return how many machines are installed in time, and the window in which all would be."""
    starts: dict[str, float] = {}
    begin = 0.0
    for wave in work.waves:
        starts_of_wave, end = _find_starts(wave, work.turns, at_once, begin)
        starts |= starts_of_wave
        begin = end + work.pause_seconds
    for limit in work.limits:
        for name, start in _find_starts(limit.members, work.turns, limit.at_once, 0.0)[0].items():
            starts[name] = max(starts[name], start)
    ends = [starts[name] + turn.install_seconds + turn.reserve_seconds for name, turn in work.turns.items()]
    return sum(end <= window_seconds for end in ends), max(ends, default=0.0)


def _find_starts(
    names: Sequence[str], turns: Mapping[str, MachineDuration], places: int, begin: float
) -> tuple[dict[str, float], float]:
    """Return when each machine begins, if the next one takes the first place that is free, and when the last ends."""
    free = [begin] * min(places, len(names))
    starts: dict[str, float] = {}
    end = begin
    for name in names:
        starts[name] = heapq.heappop(free)
        end = max(end, starts[name] + turns[name].total_seconds)
        heapq.heappush(free, starts[name] + turns[name].total_seconds)
    return starts, end
