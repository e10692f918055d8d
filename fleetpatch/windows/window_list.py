"""All windows between two moments, with what prevents them and what became of them; and the last windows. Pure.

If a past window has no run, it was missed, and no reconcile has recorded that yet.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from deployments.preview.upcoming_windows import find_overlaps
from deployments.preview.zone_schedules import ZoneSchedule
from inventory.data_class import dataclass
from tasks.domain.rows.windows import WindowKind, WindowRow
from tasks.domain.states import WindowStatus
from tasks.records.queries.windows import WindowResult
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.schedule import find_occurrences

_KINDS: Mapping[str, WindowKind] = {
    WindowStatus.CLAIMED: WindowKind.RUN,
    WindowStatus.MISSED: WindowKind.MISSED,
    WindowStatus.FROZEN: WindowKind.FROZEN,
    WindowStatus.CANCELLED: WindowKind.CANCELLED,
    WindowStatus.HELD: WindowKind.HELD,
}


def list_windows(
    zone_schedules: Sequence[ZoneSchedule],
    results: Iterable[WindowResult],
    since: datetime,
    until: datetime,
    now: datetime,
    disabled: Sequence[ZoneSchedule] = (),
) -> tuple[WindowRow, ...]:
    """Return the windows that open between two moments, in the order of their starts.

    Args:
        zone_schedules: the windows of configurations, each in its zone.
        results: what became of windows between these moments.
        since: aware.
        until: aware, excluded.
        now: the present time.
        disabled: the windows of disabled configurations: of these, the ones that became something.
    """
    by_key = {(result.configuration, result.starts_at): result for result in results}
    counted_windows: list[tuple[WindowRow, int]] = []
    shown: set[tuple[str, datetime]] = set()
    for number, zone_schedule in enumerate(zone_schedules):
        for window in iterate_windows(zone_schedule, by_key, since, until, now):
            shown.add((window.configuration, window.start))
            counted_windows.append((window, number))
    marked = _mark_overlaps(counted_windows, tuple(zone_schedules), since, until)
    past = [
        window
        for zone_schedule in disabled
        for window in iterate_windows(zone_schedule, by_key, since, until, now)
        if window.recorded_at is not None and (window.start <= now or window.kind is WindowKind.RUN)
    ]
    shown |= {(window.configuration, window.start) for window in past}
    enabled, off = ({result.configuration.name for result in listed} for listed in (zone_schedules, disabled))
    former = (
        build_former(result)
        for key, result in by_key.items()
        if key not in shown
        and (result.configuration in enabled or (result.configuration in off and result.starts_at <= now))
    )
    return tuple(
        sorted([*marked, *past, *former], key=lambda result: (result.start, result.configuration, result.zone))
    )


def iterate_windows(
    zone_schedule: ZoneSchedule,
    results: Mapping[tuple[str, datetime], WindowResult],
    since: datetime,
    until: datetime,
    now: datetime,
) -> Iterator[WindowRow]:
    """Yield the windows of one configuration in one zone that open between two moments, without their overlaps."""
    name = zone_schedule.configuration.name
    for occurrence in find_occurrences(zone_schedule.schedule, since.astimezone(UTC), until.astimezone(UTC)):
        freeze = find_freeze(occurrence, zone_schedule.freezes)
        result = results.get((name, occurrence.start))
        kind = _find_kind(result, freeze, occurrence.start, occurrence.end, now)
        yield WindowRow(
            configuration=name,
            zone=zone_schedule.schedule.zone,
            start=occurrence.start,
            end=occurrence.end,
            machines=len(zone_schedule.machines),
            kind=kind,
            reason=_find_reason(kind, result, freeze),
            note=occurrence.note or _find_hold_note(zone_schedule, kind),
            run_id=result.run_id if result is not None and kind is WindowKind.RUN else None,
            run_state=result.run_state if result is not None and kind is WindowKind.RUN else None,
            recorded_at=result.recorded_at if result is not None else None,
        )


def _find_kind(
    result: WindowResult | None, freeze: Freeze | None, start: datetime, end: datetime, now: datetime
) -> WindowKind:
    if result is not None and (result.status != WindowStatus.FROZEN or end <= now):
        return _KINDS.get(result.status, WindowKind.UNKNOWN)
    if freeze is not None:
        return WindowKind.FROZEN
    if end <= now:
        return WindowKind.UNKNOWN
    return WindowKind.OPEN if start <= now else WindowKind.COMING


def _find_hold_note(zone_schedule: ZoneSchedule, kind: WindowKind) -> str:
    """Return what people should know of a window that may stay closed, because its configuration holds updates."""
    is_held = zone_schedule.configuration.form.maintenance is not None
    return "installs what is held only at its time" if is_held and kind is WindowKind.COMING else ""


def _find_reason(kind: WindowKind, result: WindowResult | None, freeze: Freeze | None) -> str:
    if kind is WindowKind.FROZEN and freeze is not None:
        return freeze.reason or "a freeze"
    return result.reason if result is not None else ""


def build_former(result: WindowResult) -> WindowRow:
    """Return a window that is recorded, but that the configuration does not have any more."""
    kind = _KINDS.get(result.status, WindowKind.UNKNOWN)
    return WindowRow(
        configuration=result.configuration,
        zone="",
        start=result.starts_at,
        end=None,
        machines=0,
        kind=kind,
        reason=result.reason,
        run_id=result.run_id if kind is WindowKind.RUN else None,
        run_state=result.run_state if kind is WindowKind.RUN else None,
        recorded_at=result.recorded_at,
    )


def _mark_overlaps(
    found: Sequence[tuple[WindowRow, int]], zone_schedules: tuple[ZoneSchedule, ...], since: datetime, until: datetime
) -> Iterator[WindowRow]:
    """Yield the windows, each with the configurations that have another one at the same time on its machines.

    Many windows have the same time and the same machines: what is open beside them is looked for once.
    """
    partners: dict[str, set[str]] = {}
    for overlap in find_overlaps(zone_schedules, since, until):
        partners.setdefault(overlap.first, set()).add(overlap.second)
        partners.setdefault(overlap.second, set()).add(overlap.first)
    if not partners:
        yield from (window for window, _ in found)
        return
    distinct: dict[frozenset[str], frozenset[str]] = {}  # equal sets are one object: to compare them takes no time
    machines = [
        distinct.setdefault(names, names) for names in (frozenset(schedule.machines) for schedule in zone_schedules)
    ]
    open_windows = sorted(
        _OpenWindow(window.start, window.end, window.configuration, machines[number])
        for window, number in found
        if window.configuration in partners and not window.is_void and window.end is not None
    )
    starts = [open_window.start for open_window in open_windows]
    longest = max((open_window.end - open_window.start for open_window in open_windows), default=timedelta())

    @cache
    def find_names(start: datetime, end: datetime, names: frozenset[str]) -> tuple[str, ...]:
        near = open_windows[bisect_left(starts, start - longest) : bisect_left(starts, end)]
        beside = {
            open_window.configuration
            for open_window in near
            if open_window.end > start and not names.isdisjoint(open_window.machines)
        }
        return tuple(sorted(beside))

    for window, number in found:
        others = partners.get(window.configuration)
        if others is None or window.is_void:
            yield window
            continue
        beside = find_names(window.start, window.end or window.start, machines[number])
        yield replace(window, overlaps=tuple(name for name in beside if name in others))


@dataclass(frozen=True, slots=True, order=True)
class _OpenWindow:
    start: datetime
    end: datetime
    configuration: str
    machines: frozenset[str] = field(compare=False)


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
