"""The iCalendar feed of the windows.

Who may read it: everybody who may look at the pages. How calendar programs could log in: they can't send a bearer
token, and a token in a URL would stand in logs, histories and shared calendars, so it is never accepted there. What
they all can is HTTP Basic: the user is the name of an access token, the password is the token itself, for this path
only. A token with the role view is enough, and is what should be given to a calendar program: it stores the token, and
other people may run it. Beyond loopback that needs TLS, as every login does. Who makes a request is found out by the
access middleware (fleetpatch/access), so Basic belongs there and not here: a page must not decide who somebody is.
"""

from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from deployments.preview.window_calendar import list_freezes
from deployments.preview.zone_schedules import ZoneSchedule
from fleetpatch.access.identity import require_role
from fleetpatch.access.roles import Role
from fleetpatch.machines.machine_list import select_names
from fleetpatch.machines.snapshot import FleetSnapshot
from fleetpatch.pages.calendar import list_common_freezes, select_schedules
from fleetpatch.web.authentication import FEED_PATH
from fleetpatch.web.context import get_context
from fleetpatch.windows.feed import AHEAD, MAX_WINDOWS, PAST, FeedSource, build_feed
from fleetpatch.windows.window_list import list_windows
from tasks.records.queries.fleet.windows import read_window_results

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])


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
    source = FeedSource(context.settings.fleet, _find_change(fleet, now), context.settings.public_url)
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


def _find_change(fleet: FleetSnapshot, now: datetime) -> datetime:
    """Return when the files of configurations changed last."""
    path = fleet.configurations.source_path if fleet.configurations is not None else None
    moments = [moment for file in _list_files(path) if (moment := _read_change(file)) is not None]
    return min(max(moments, default=datetime.fromtimestamp(0, UTC)), now)


def _list_files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return [path, *sorted(file for file in path.rglob("*") if file.is_file())] if path.is_dir() else [path]


def _read_change(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # it was deleted meanwhile
        return None
