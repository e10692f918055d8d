"""The API's routes that read runs, approvals and the audit log."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, HTTPException, Query, Request

from fleetpatch.acts.event_acts import get_events
from fleetpatch.acts.flow_runs import read_flow_run
from fleetpatch.acts.run_acts import get_shared_clock
from fleetpatch.api import fleet_reading, models
from fleetpatch.api.dependencies import READ
from fleetpatch.api.fleet_reading import Number, describe_part
from fleetpatch.api.problems import describe_problems
from fleetpatch.pages.paging import PAGE_SIZE, build_part
from fleetpatch.pages.run import find_exact_run
from fleetpatch.web.context import get_context
from tasks.domain.rows import copy_row
from tasks.domain.rows.approvals import ApprovalRow
from tasks.domain.rows.audit import AuditEntry
from tasks.domain.rows.runs import MachineStepRow, RunRow, build_run_row
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.records.approvals import SqlApprovals, build_approval_row
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.runs import RunFilter, count_runs, read_run_rows
from tasks.records.queries.shard_rows import read_shard_rows
from tasks.records.run_progress import read_run_progress
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import build_document
from tasks.rules.scheduled_events import build_event_row

RUNS_IN_PART: Final = 100
MAX_RUNS_IN_PART: Final = 1000
MAX_EVENTS: Final = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_RUNS_IN_PART, description="How many runs a part has.")]
Kind = Annotated[
    Literal["patch", "stage", "assess", "plan", "shard"] | None,
    Query(description="Only runs of this kind; left out: all but shards, which are parts of other runs."),
]

router = APIRouter(dependencies=list(READ), responses=describe_problems(404))


@router.get("/runs", tags=["Runs"])
def list_runs(
    request: Request, kind: Kind = None, limit: Limit = RUNS_IN_PART, page: Number = 1
) -> models.Part[RunRow]:
    """The runs, newest first. If a run begins between two parts, one may come twice; none is left out."""
    database, run_filter = get_context(request).records.database, RunFilter(kinds=(kind,) if kind else ())
    part = build_part(
        request,
        lambda offset, count: read_run_rows(database, run_filter, offset, count),
        page,
        total=count_runs(database, run_filter),
        size=limit,
    )
    return describe_part(part, page)


@router.get("/runs/{run_id}", tags=["Runs"])
def read_report(request: Request, run_id: str) -> models.Report:
    """The whole report of a run: waves, hooks and machines with their updates, steps and findings."""
    context = get_context(request)
    run = find_exact_run(context, run_id)
    shards = list(read_shard_rows(context.records.database, run.id, context.clock.now()))
    return models.Report(**build_document(build_tables(context.history.read_report(run.id))), shards=shards)


@router.get("/runs/{run_id}/progress", tags=["Runs"])
def show_progress(request: Request, run_id: str) -> models.Progress:
    """What the machines of a run do now. Empty for a run that is over."""
    context = get_context(request)
    run = find_exact_run(context, run_id)
    lease = context.records.leases.find_lease(run.id)
    is_held = lease is not None and lease.is_held
    return models.Progress(
        run=build_run_row(run),
        executed=is_held,
        executed_by=str(lease.holder) if lease is not None and is_held else None,
        stop_requested_by=lease.stop.who if lease is not None and lease.stop is not None else None,
        machines=[
            copy_row(MachineStepRow, step) for step in read_run_progress(context.records.database, run.id).values()
        ],
    )


@router.get("/flow-runs/{flow_run_id}", tags=["Runs"])
def read_started(request: Request, flow_run_id: str) -> models.FlowRun:
    """How a run that was asked for here comes to its worker."""
    run = get_context(request).history.find_run_by_flow_run(flow_run_id)
    status = read_flow_run(flow_run_id)
    if status is None:
        raise HTTPException(404, "nothing was started here with this id")
    return models.FlowRun(
        flow_run_id=flow_run_id,
        maintenance_run_id=run.id if run is not None else None,
        state=status.state,
        message=status.message,
        is_over=status.is_over,
    )


@router.get("/approvals", tags=["Approvals"])
def list_approvals(request: Request) -> list[ApprovalRow]:
    """The plans that wait for a decision."""
    context = get_context(request)
    pending_approvals = SqlApprovals(context.records.database, get_shared_clock(context)).find_pending_approvals()
    return list(map(build_approval_row, pending_approvals))


@router.get("/events", tags=["Events"])
def list_events(request: Request, page: Number = 1) -> models.Part[ScheduledEventRow]:
    """The newest scheduled events: what machines are told before runs interrupt them, and who has approved."""
    rows = [build_event_row(event) for event in get_events(request).find_newest(MAX_EVENTS, only_open=False)]
    return fleet_reading.build_part(request, rows, page)


@router.get("/audit", tags=["Audit"])
def list_audit(request: Request, page: Number = 1) -> models.Part[AuditEntry]:
    """The audit log, the newest first."""
    log = SqlAuditLog(get_context(request).records.database)
    part = build_part(
        request, lambda offset, limit: log.read(limit, offset=offset), page, total=log.count(), size=PAGE_SIZE
    )
    return describe_part(part, page)
