"""The overview: the state of the whole fleet."""

from collections.abc import Mapping, Sequence
from datetime import date

from fastapi import Request
from fastapi.responses import HTMLResponse

from deployments.preview.zone_schedules import list_over_schedules
from fleetpatch.live.live_runs import read_live_runs
from fleetpatch.machines.automatic_patching import read_automatic_summary
from fleetpatch.machines.snapshot import FleetSnapshot, count_fleet
from fleetpatch.pages.runs import list_runs
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.certificate import describe_certificate_end
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from fleetpatch.windows.window_list import RECORDED, list_last_windows
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.rows.windows import WindowRow
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.approvals import SqlApprovals
from tasks.records.provided_machines import SqlProvidedMachines
from tasks.records.queries.runs import RunFilter, read_run_rows
from tasks.records.queries.trends import DayTotals
from tasks.records.queries.windows import read_last_window_results

router = build_viewers_router()

SPANS = (30, 90, 365)
RUNS_COUNT = 8
WINDOWS_COUNT = 8
RESULTS_COUNT = 100
"""So many results of windows are read for the last windows."""
_MAX_POINTS = 92
"""So many days are drawn at most: of a year each fourth one."""


@dataclass(frozen=True, slots=True)
class ChartDay:
    """The fleet on one day, for the charts."""

    day: date
    totals: DayTotals

    @property
    def share(self) -> float | None:
        """The compliant machines of those that were assessed, from 0 to 1; None if none was."""
        return self.totals.compliant / self.totals.assessed if self.totals.assessed else None


@router.get("/")
def show_overview(request: Request, days: int = SPANS[0]) -> HTMLResponse:
    """Show the overview, with the trends of the last days."""
    context = get_context(request)
    snapshot, now = context.fleet.read(), context.clock.now()
    span = days if days in SPANS else SPANS[0]
    return render_page(
        request,
        "overview.html.j2",
        snapshot=snapshot,
        problems=list_problems(context, snapshot),
        totals=count_fleet(snapshot),
        oldest=snapshot.oldest,
        runs=list_runs(context, read_run_rows(context.records.database, RunFilter(), 0, RUNS_COUNT)),
        last_windows=read_overview_windows(context, snapshot),
        automatic=read_automatic_summary(snapshot, context.records.database),
        windows=[upcoming_window for upcoming_window in snapshot.upcoming if upcoming_window.window.end > now][
            :WINDOWS_COUNT
        ],
        over=list_over_schedules(snapshot.zone_schedules, now),
        live=read_live_runs(context),
        approvals=len(SqlApprovals(context.records.database, context.clock).find_pending_approvals()),
        span=span,
        spans=SPANS,
        trend=choose_chart_days(context.fleet.read_trends(span)),
    )


def list_problems(context: WebContext, snapshot: FleetSnapshot) -> Sequence[str]:
    """Return what could not be read, what ends soon, and that the workers may have another policy than the pages."""
    now = context.clock.now()
    certificate = describe_certificate_end(context.certificate_ends_at, now)
    try:
        tokens = SqlAccessTokens(context.records.database).list_tokens()
        policy = context.policy_difference.read(now)
        lost = SqlProvidedMachines(context.records.database, context.records.seals).find_losses()
    except RecordsError as error:
        return (*context.prefect_watcher.problems, *snapshot.problems, *filter(None, (certificate,)), error.message)
    ending = (
        f"The access token {token.name} ends on {token.expires_at:%d %b %Y %H:%M} UTC: fleetpatch web token add."
        for token in tokens
        if token.ends_soon(now)
    )
    there = {(row.machine.name, row.machine.provider) for row in snapshot.rows.values()}
    disks = [
        f"{record.machine}: {record.loss.splitlines()[0]}: fleetpatch snapshots list."
        for record in lost
        if not record.is_unreadable  # the pages need no key of runs
        and (snapshot.inventory is None or (record.machine, record.provider) in there)
    ]
    own = (*disks, *filter(None, (certificate, policy)), *ending)
    return (*context.prefect_watcher.problems, *snapshot.problems, *own)


def read_overview_windows(context: WebContext, snapshot: FleetSnapshot) -> Sequence[WindowRow]:
    """Return the last windows, and what became of them."""
    names, now = {zone_schedule.configuration.name for zone_schedule in snapshot.zone_schedules}, context.clock.now()
    if not names:
        return ()
    results = read_last_window_results(context.records.database, names, now - RECORDED, RESULTS_COUNT)
    oldest = context.history.find_oldest_run()
    known_since = oldest.started_at if oldest is not None else None
    if known_since is not None and len(results) == RESULTS_COUNT:
        known_since = max(known_since, results[-1].starts_at)
    return list_last_windows(snapshot.zone_schedules, results, known_since, now, WINDOWS_COUNT)


def choose_chart_days(trend: Mapping[date, DayTotals]) -> Sequence[ChartDay]:
    """Return the days that are drawn: not more than a chart can show, and always the newest one."""
    listed = [ChartDay(day, totals) for day, totals in sorted(trend.items())]
    first = next((number for number, trend_day in enumerate(listed) if trend_day.totals.assessed), len(listed))
    known_days = listed[first:]
    step = -(-len(known_days) // _MAX_POINTS) or 1
    return known_days[(len(known_days) - 1) % step :: step] if known_days else []
