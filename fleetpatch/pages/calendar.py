"""The calendar: the windows of one month, their freezes and overlaps, what became of past ones, and the iCalendar feed.

Who may read the feed: everybody who may look at the pages. How calendar programs could log in: they can't send a bearer
token, and a token in a URL would stand in logs, histories and shared calendars, so it is never accepted there. What
they all can is HTTP Basic: the user is the name of an access token, the password is the token itself, for this path
only. A token with the role view is enough, and is what should be given to a calendar program: it stores the token, and
other people may run it. Beyond loopback that needs TLS, as every login does. Who makes a request is found out by the
access middleware (fleetpatch/access), so Basic belongs there and not here: a page must not decide who somebody is.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from deployments.preview.automatic_status import describe_off_peak
from deployments.preview.window_calendar import list_freezes
from deployments.preview.zone_schedules import ZoneSchedule, list_over_schedules
from fleetpatch.machines.machine_list import select_names
from fleetpatch.machines.scopes import find_window_scope
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.web.authentication import FEED_PATH, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from fleetpatch.windows.feed import AHEAD, MAX_WINDOWS, PAST, FeedSource, build_feed
from fleetpatch.windows.month import CalendarDay, build_month, build_weeks, find_today, parse_month
from fleetpatch.windows.window_list import list_windows
from flows.request.request_parts import FreezeRequest
from tasks.domain.errors import RequestError
from tasks.records.queries.windows import read_window_results
from tasks.rules.calendar.local_time import get_time_zone

router = build_viewers_router()
MAX_LISTED = 400
"""With more entries in a month, the list below the grid has only one day."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@router.get("/calendar")
def show_calendar(
    request: Request, month: str = "", configuration: str = "", zone: str = "", day: str = ""
) -> HTMLResponse:
    """Show the windows of one month."""
    context = get_context(request)
    fleet, now = context.fleet.read(), context.clock.now()
    chosen_zone, problems = choose_zone(zone, context.settings.zone)
    today = find_today(now, chosen_zone)
    month_grid = build_month(parse_month(month, today), chosen_zone)
    schedules, disabled = (
        select_schedules(listed, configuration) for listed in (fleet.zone_schedules, fleet.disabled_schedules)
    )
    results = read_window_results(context.records.database, month_grid.since, month_grid.until)
    windows = list_windows(schedules, results, month_grid.since, month_grid.until, now, disabled)
    freezes = list_freezes(schedules, month_grid.since, month_grid.until, *list_common_freezes(fleet))
    weeks = build_weeks(month_grid, windows, freezes, now)
    days = [
        calendar_day
        for week in weeks
        for calendar_day in week
        if calendar_day.is_in_month and (calendar_day.entries or calendar_day.freezes)
    ]
    listed = _list_days(days, day, today)
    automatic = fleet.configurations.automatic if fleet.configurations is not None else None
    return render_page(
        request,
        "calendar.html.j2",
        month=month_grid,
        weeks=weeks,
        days=listed,
        is_one_day=len(listed) < len(days),
        other_days=[calendar_day.day for calendar_day in days],
        max_listed=MAX_LISTED,
        zone=chosen_zone,
        zones=_list_zones(fleet, context.settings.zone, chosen_zone),
        configuration=configuration,
        configurations=sorted(
            {schedule.configuration.name for schedule in (*fleet.zone_schedules, *fleet.disabled_schedules)}
        ),
        has_enabled=bool(fleet.zone_schedules),
        # Kept: a configuration has the same machines in all of its windows, and to compare them takes time.
        find_scope=cache(partial(find_window_scope, [*schedules, *disabled], fleet.inventory)),
        disabled=_list_disabled(fleet),
        over=list_over_schedules(fleet.zone_schedules, now),
        tight={(fit.configuration, fit.zone): fit for fit in fleet.fits if fit.message},
        overlaps=sum(bool(entry.overlaps) for calendar_day in days for entry in calendar_day.entries),
        total=sum(len(calendar_day.entries) for calendar_day in days),
        today=today,
        automatic=automatic if automatic is not None and automatic.enabled else None,
        off_peak=describe_off_peak(automatic) if automatic is not None else "",
        managed=fleet.managed,
        problems=[*fleet.problems, *problems],
    )


def list_common_freezes(fleet: FleetSnapshot) -> tuple[Sequence[FreezeRequest], frozenset[str]]:
    """Return the freezes of the whole fleet, and the zones of its machines."""
    common = fleet.configurations.common_freezes if fleet.configurations is not None else ()
    return common, frozenset(row.machine.zone for row in fleet.rows.values())


def choose_zone(asked: str, default: str) -> tuple[str, list[str]]:
    """Return the zone of the calendar, and why it is not the one that was asked for."""
    for name in filter(None, (asked, default)):
        try:
            get_time_zone(name)
        except RequestError as error:
            if name == asked:
                return choose_zone("", default)[0], [error.message]
        else:
            return name, []
    return "UTC", []


def select_schedules(schedules: Iterable[ZoneSchedule], configuration: str) -> tuple[ZoneSchedule, ...]:
    """Return the windows of one configuration; of all without a name."""
    return tuple(
        schedule for schedule in schedules if not configuration or schedule.configuration.name == configuration
    )


def _list_days(days: Sequence[CalendarDay], day: str, today: date) -> list[CalendarDay]:
    """Return the days of the list: all of them, or one if there are too many windows."""
    chosen = [calendar_day for calendar_day in days if _DAY.fullmatch(day) and calendar_day.day.isoformat() == day]
    if chosen:
        return chosen
    if sum(len(calendar_day.entries) for calendar_day in days) <= MAX_LISTED:
        return list(days)
    return [next((calendar_day for calendar_day in days if calendar_day.day >= today), days[0])]


def _list_zones(fleet: FleetSnapshot, *others: str) -> list[str]:
    zones = {zone_schedule.schedule.zone for zone_schedule in fleet.zone_schedules} | {
        row.machine.zone for row in fleet.rows.values()
    }
    return sorted(zones | {"UTC", *others})


def _list_disabled(fleet: FleetSnapshot) -> list[str]:
    if fleet.configurations is None:
        return []
    return [
        configuration.name for configuration in fleet.configurations.all_configurations if not configuration.is_enabled
    ]


@router.get(FEED_PATH)
def show_feed(request: Request, configuration: str = "", scope: str = "") -> Response:
    """Show the windows of the last 30 and the next 180 days as iCalendar.

    A configuration that does not exist any more gives an empty calendar: a program that has the feed for years must not
    keep its last windows for ever.
    """
    context = get_context(request)
    fleet, now = context.fleet.read(), context.clock.now()
    if fleet.configurations is None and fleet.problems:
        raise HTTPException(503, "; ".join(fleet.problems))  # an empty calendar would say that there are no windows
    since, until = now - PAST, now + AHEAD
    schedules, disabled = (
        _narrow(select_schedules(listed, configuration), fleet, scope)
        for listed in (fleet.zone_schedules, fleet.disabled_schedules)
    )
    results = read_window_results(context.records.database, since, until)
    windows = list_windows(schedules, results, since, until, now, disabled)
    if len(windows) > MAX_WINDOWS:
        raise HTTPException(413, f"{len(windows)} windows are too many for one feed: add ?configuration= or ?scope=")
    path = fleet.configurations.source_path if fleet.configurations is not None else None
    moments = [moment for file in _list_files(path) if (moment := _read_change(file)) is not None]
    changed_at = min(max(moments, default=datetime.fromtimestamp(0, UTC)), now)
    source = FeedSource(context.settings.fleet, changed_at, context.settings.public_url)
    body = build_feed(windows, list_freezes(schedules, since, until, *list_common_freezes(fleet)), source)
    headers = {"Content-Disposition": 'inline; filename="fleetpatch.ics"'}
    return Response(body, media_type="text/calendar; charset=utf-8", headers=headers)


def _narrow(schedules: tuple[ZoneSchedule, ...], fleet: FleetSnapshot, scope: str) -> tuple[ZoneSchedule, ...]:
    """Return the windows of machines that a scope selects, each with these machines only."""
    if not scope:
        return schedules
    if fleet.inventory is None:
        raise HTTPException(503, "; ".join(fleet.problems) or "the inventory can't be read")
    names = select_names(fleet, scope)
    narrowed = (
        ZoneSchedule(
            schedule.configuration,
            schedule.schedule,
            schedule.freezes,
            tuple(name for name in schedule.machines if name in names),
        )
        for schedule in schedules
    )
    return tuple(window for window in narrowed if window.machines)


def _list_files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return [path, *sorted(file for file in path.rglob("*") if file.is_file())] if path.is_dir() else [path]


def _read_change(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # it was deleted meanwhile
        return None
