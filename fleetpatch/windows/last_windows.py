"""The last windows: what became of each. A window without a run is one that nobody has noticed yet."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.windows.window_list import build_former, iterate_windows
from tasks.domain.rows.windows import WindowKind, WindowRow
from tasks.records.queries.fleet.windows import WindowResult

RECORDED: Final = timedelta(days=35)
"""How far back results count: a month, so that monthly windows are among them."""
UNRECORDED: Final = timedelta(days=7)
"""How far back windows are looked for that have no result."""


def list_last_windows(
    zone_schedules: Sequence[ZoneSchedule],
    results: Sequence[WindowResult],
    known_since: datetime | None,
    now: datetime,
    limit: int,
) -> tuple[WindowRow, ...]:
    """Return the windows that are over, or that a run has, newest first.

    Args:
        zone_schedules: the windows of configurations, each in its zone.
        results: what became of the newest windows.
        known_since: when the records begin: what was before is not missing in them. None: they have no run.
        now: the present time.
        limit: how many windows at most.
    """
    by_key = {(result.configuration, result.starts_at): result for result in results}
    # Whole days, so that the windows of a day are found once: find_occurrences keeps them.
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    windows = [
        window
        for zone_schedule in zone_schedules
        for window in iterate_windows(zone_schedule, by_key, today - UNRECORDED, today + timedelta(days=1), now)
        if _has_become_something(window, known_since, now)
    ]
    shown = {(each.configuration, each.start) for each in windows}
    zones = {
        zone_schedule.configuration.name: zone_schedule.schedule.zone for zone_schedule in reversed(zone_schedules)
    }
    older = [build_former(each) for key, each in by_key.items() if key not in shown and each.starts_at <= now]
    listed = [*windows, *(each for each in older if each.configuration in zones)]
    return tuple(sorted(listed, key=lambda each: (each.start, each.configuration, each.zone), reverse=True)[:limit])


def _has_become_something(window: WindowRow, known_since: datetime | None, now: datetime) -> bool:
    if window.kind is WindowKind.UNKNOWN:
        return known_since is not None and known_since < window.start
    return window.start <= now and window.kind is not WindowKind.OPEN
