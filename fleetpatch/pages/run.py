"""The page of a run: what it does or did, its machines in their order, why anything happened."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.live.live_runs import MAX_WORKING, compute_list_version, summarize_run
from fleetpatch.pages.paging import PAGE_SIZE, Page, build_page
from fleetpatch.runs.run_page import (
    MAX_GROUPS,
    RUN_DETAIL,
    RunPageMachine,
    build_rows,
    build_run_timeline,
    group_problems,
    sort_lines,
)
from fleetpatch.runs.run_state import MachineLine, RunState, can_decide, read_run_state
from fleetpatch.web.authentication import build_page_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from flows.approval.answers import describe_approval
from tasks.domain.errors import RunNotFound
from tasks.domain.model import HookResult, RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.approvals import Approval, SqlApprovals
from tasks.records.queries.run_machines import read_machine_details
from tasks.records.queries.runs import find_run_row
from tasks.reports.data.tables import build_hook_row
from tasks.reports.formatting import format_scope
from tasks.rules.runs.hooks import MACHINE_PLACES
from tasks.rules.timing.maintenance_window import describe_window

router = build_page_router()
ORDERS = ("wave", "state")
MAX_HOOKS = 100


@dataclass(frozen=True, slots=True)
class RunHead:
    """The facts of a run.

    Attributes:
        approval: the state of its approval in a sentence; "" if it needs none.
        is_waiting: whether a person can decide now.
    """

    run: RunInfo
    title: str
    zone: str
    window: str
    approval: str
    is_waiting: bool
    is_open: bool


@dataclass(frozen=True, slots=True)
class WavePart:
    """The machines of one wave on a page; ``number`` is None for machines without a wave."""

    number: int | None
    is_canary: bool
    rows: list[RunPageMachine]


@router.get("/runs/{run_id}")
def show_run(request: Request, run_id: str, page: int = 1, order: str = "", state: str = "") -> Response:
    """Show a run. A prefix of an id leads to the run."""
    context = get_context(request)
    run = find_run(context, run_id)
    if run.id != run_id:
        return RedirectResponse(f"/runs/{quote(run.id, safe='')}", 303)
    run_state = read_state(context, run)
    order = order if order in ORDERS else "state" if len(run_state.machines) > PAGE_SIZE else "wave"
    lines = build_page(request, sort_lines(run_state, order, state), page)
    return _render(request, run, run_state, lines, order, state)


def find_run(context: WebContext, run_id: str) -> RunInfo:
    """Return a run by its id or a prefix of it.

    Raises:
        HTTPException: there is none (404).
        RecordsError: the records can't be read.
    """
    try:
        return context.history.find_run(run_id)
    except RunNotFound as error:
        raise HTTPException(404, error.message) from error


def find_exact_run(context: WebContext, run_id: str) -> RunInfo:
    """Return a run by its whole id.

    Raises:
        HTTPException: there is none (404).
        RecordsError: the records can't be read.
    """
    run = find_run(context, run_id)
    if run.id != run_id:
        raise HTTPException(404, f"there is no run {run_id!r}")
    return run


def read_state(context: WebContext, run: RunInfo) -> RunState:
    """Return a run with all its machines.

    Raises:
        HTTPException: it was deleted meanwhile (404).
        RecordsError: the records can't be read.
    """
    database = context.records.database
    line = find_run_row(database, run.id)
    if line is None:
        raise HTTPException(404, f"there is no run {run.id!r}")
    return read_run_state(database, line, context.clock.now())


def build_head(context: WebContext, run: RunInfo) -> RunHead:
    """Return the facts of a run.

    Raises:
        RecordsError: the records can't be read.
    """
    approvals = SqlApprovals(context.records.database)
    approval: Approval | None = approvals.find_approval(run.id)
    zone = run.window.zone if run.window else context.settings.zone
    is_open = run.state in UNFINISHED_RUN_STATES
    is_waiting = approval is not None and is_open and can_decide(approvals, approval)
    return RunHead(
        run=run,
        title=str(run.request.get("configuration") or format_scope(run.scope) or run.id),
        zone=zone,
        window=describe_window(run.window) if run.window else "",
        approval=describe_approval(approval, zone) if approval is not None else "",
        is_waiting=is_waiting,
        is_open=is_open,
    )


def _render(
    request: Request, run: RunInfo, found: RunState, lines: Page[MachineLine], order: str, state: str
) -> HTMLResponse:
    context = get_context(request)
    now: datetime = context.clock.now()
    names = [line.name for line in lines.items]
    details = dict(read_machine_details(context.records.database, run.id, names))
    hooks: tuple[HookResult, ...] = found.parts.hooks if found.parts is not None else ()
    rows = build_rows(lines.items, details, hooks, run.id)
    around = [build_hook_row(run.id, hook) for hook in hooks if hook.hook.place not in MACHINE_PLACES]
    notes = found.parts.notes if found.parts is not None else ()
    head = build_head(context, run)
    return render_page(
        request,
        "run.html.j2",
        head=head,
        run=run,
        state=found,
        figures=found.figures,
        run_now=summarize_run(found, MAX_WORKING, head.approval if head.is_waiting else "") if found.process else None,
        line=found.line,
        version=compute_list_version(found, now),
        page=lines,
        waves=_group_by_wave(rows) if order == "wave" else [WavePart(None, is_canary=False, rows=rows)],
        timelines=build_run_timeline(
            run, lines.items, details, found.parts.waves if found.parts else (), head.zone, now
        ),
        groups=group_problems(found),
        max_groups=MAX_GROUPS,
        detail=RUN_DETAIL,
        hooks=around,
        notes=notes,
        max_hooks=MAX_HOOKS,
        order=order,
        wanted_state=state,
    )


def _group_by_wave(rows: list[RunPageMachine]) -> list[WavePart]:
    parts_by_wave: dict[int | None, WavePart] = {}
    for row in rows:
        key = row.line.wave
        parts_by_wave.setdefault(key, WavePart(key, row.line.is_canary, [])).rows.append(row)
    return list(parts_by_wave.values())
