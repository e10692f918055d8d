"""The page of a run: what it does or did, its machines in their order with their updates, why anything happened."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.acts.event_acts import get_events
from fleetpatch.live.live_runs import MAX_WORKING, compute_list_version, summarize_run
from fleetpatch.pages.paging import PAGE_SIZE, Page, build_page
from fleetpatch.runs.run_state import MachineLine, RunState, can_decide, read_run_state
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from flows.approval.answers import describe_approval
from inventory.data_class import dataclass
from tasks.domain.errors import RunNotFound
from tasks.domain.model import HookResult, Outcome, RunInfo, RunReport, StepRecord, Wave
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, Step
from tasks.records.approvals import Approval, SqlApprovals
from tasks.records.queries.run_machines import RecordedMachine, read_machine_details
from tasks.records.queries.runs import find_run_row
from tasks.reports.data.groups import ErrorGroup, sort_updates
from tasks.reports.data.machine_reports import MachineReport
from tasks.reports.data.rows import UpdateReportRow
from tasks.reports.data.tables import build_hook_row, build_update_rows
from tasks.reports.formatting import format_scope, load_zone_or_utc
from tasks.reports.html.page import DetailLimits
from tasks.reports.html.timeline import Timeline, build_timelines
from tasks.rules.runs.figures import compute_work_seconds
from tasks.rules.runs.hooks import MACHINE_PLACES
from tasks.rules.runs.shards import find_whole_run_of
from tasks.rules.scheduled_events import build_event_row
from tasks.rules.timing.maintenance_window import describe_window

UPDATES_ON_PAGE: Final = 1500
"""Updates of all machines on one page, so that no page is larger than 1 MB. Each machine's own page has all of its."""
MAX_UPDATES: Final = 60
MAX_GROUPS: Final = 12
MAX_NAMES: Final = 12
RUN_DETAIL: Final = DetailLimits(0, 0, MAX_UPDATES, 100, MAX_NAMES, 0, 300, 0)
"""What the page of a run shows of each machine, group and hook."""
MACHINE_DETAIL: Final = DetailLimits(1, 1, 1000, 100, MAX_NAMES, 0, 600, 0)
"""What the page of one machine in a run shows."""


@dataclass(frozen=True, slots=True)
class RunPageMachine:
    """A machine on the page of its run."""

    line: MachineLine
    # The first updates, failed ones first; ``left_out`` others are on the machine's own page.
    updates: tuple[UpdateReportRow, ...] = ()
    left_out: int = 0
    counts: tuple[tuple[str, int], ...] = ()  # how many updates have each state
    notes: tuple[str, ...] = ()
    hooks: tuple[HookResult, ...] = ()  # the hooks for this machine
    predicted_seconds: float | None = None  # of the plan; None: not planned
    # The time of its steps, without waiting between them; None: no step is recorded.
    worked_seconds: float | None = None


def sort_lines(state: RunState, order: str, wanted_state: str) -> list[MachineLine]:
    """Return the machines of a list. Pure.

    Args:
        state: the run.
        order: "wave" for the order of the run, "state" for problems first.
        wanted_state: only machines with this state; "" for all.
    """
    lines = [machine for machine in state.machines if not wanted_state or machine.state == wanted_state]
    if order == "state":
        return sorted(lines, key=lambda line: (line.rank, line.position))
    return sorted(lines, key=lambda line: (10**9 if line.wave is None else line.wave, line.position))


def build_rows(
    lines: Sequence[MachineLine], details: dict[str, RecordedMachine], hooks: Sequence[HookResult], run_id: str
) -> list[RunPageMachine]:
    """Return machines with their updates. Pure."""
    room = max(3, min(MAX_UPDATES, UPDATES_ON_PAGE // max(1, len(lines))))
    hooks_by_machine: dict[str, list[HookResult]] = {}
    for hook in hooks:
        hooks_by_machine.setdefault(hook.subject, []).append(hook)
    return [
        _build_row(line, details.get(line.name), hooks_by_machine.get(line.name, ()), run_id, room) for line in lines
    ]


def _build_row(
    line: MachineLine, details: RecordedMachine | None, hooks: Sequence[HookResult], run_id: str, room: int
) -> RunPageMachine:
    if details is None:
        return RunPageMachine(line, hooks=tuple(hooks))
    machine_report = MachineReport(run_id, line.name, None, details.outcome, details.plan, None)
    updates = sort_updates(build_update_rows(machine_report))
    counts: dict[str, int] = {}
    for update in updates:
        counts[update.shown_state] = counts.get(update.shown_state, 0) + 1
    plan = details.plan
    return RunPageMachine(
        line,
        tuple(updates[:room]),
        max(0, len(updates) - room),
        tuple(counts.items()),
        plan.notes if plan is not None else (),
        tuple(hooks),
        plan.prediction.total_seconds if plan is not None and plan.chosen else None,
        compute_work_seconds(details.outcome) if details.outcome is not None else None,
    )


def build_run_timeline(
    run: RunInfo,
    lines: Sequence[MachineLine],
    details: dict[str, RecordedMachine],
    waves: Sequence[Wave],
    zone: str,
    now: datetime,
) -> dict[str, Timeline]:
    """Return the timelines of some machines, in a zone: "wide" and "narrow"; none if nothing has begun.

    A machine in progress has its steps so far. Pure.
    """
    names = {line.name for line in lines}
    outcomes = tuple(filter(None, (build_outcome_so_far(run, line, details.get(line.name), now) for line in lines)))
    shown = tuple(replace(wave, machines=tuple(name for name in wave.machines if name in names)) for wave in waves)
    plans = tuple(
        detail.plan for name in names if (detail := details.get(name)) is not None and detail.plan is not None
    )
    report = RunReport(run, outcomes, tuple(wave for wave in shown if wave.machines), plans)
    if run.kind != "plan" and not any(outcome.steps for outcome in outcomes):
        return {}
    return build_timelines(report, load_zone_or_utc(zone), now=now, limit=len(names))


def build_outcome_so_far(
    run: RunInfo, line: MachineLine, detail: RecordedMachine | None, now: datetime
) -> Outcome | None:
    """Return the result of a machine; of one in progress its steps so far; None: nothing was begun. Pure."""
    if detail is not None and detail.outcome is not None:
        return detail.outcome
    if not line.is_working and line.state != OperationState.UNKNOWN:
        return None
    state = OperationState(line.state)
    steps = detail.steps if detail is not None else ()
    if line.since is not None and line.step:
        end = now if line.is_working else line.news_at or now
        steps = (*steps, StepRecord(Step(line.step), line.since, max(end, line.since), state))
    return Outcome(run.id, line.name, state, line.message, wave=line.wave, steps=steps)


def group_problems(state: RunState) -> list[ErrorGroup]:
    """Return the reasons why machines failed or were not begun, the worst and most frequent first. Pure."""
    if state.line.kind == "plan":
        return []
    states = {OperationState.FAILED, OperationState.UNKNOWN, OperationState.COMPLETED_WITH_WARNINGS}
    names_by_reason: dict[tuple[int, str, str], list[str]] = {}
    for line in state.machines:
        if line.state in states or (line.state == OperationState.NOT_STARTED and line.is_done):
            names_by_reason.setdefault((line.rank, line.state, line.message.removeprefix(f"{line.name} ")), []).append(
                line.name
            )
    groups = sorted(names_by_reason.items(), key=lambda item: (item[0][0], -len(item[1])))
    return [ErrorGroup(group_state, reason, "", "", names) for (_, group_state, reason), names in groups]


router = build_viewers_router()
ORDERS = ("wave", "state")
MAX_HOOKS = MAX_SHARDS = 100


@dataclass(frozen=True, slots=True)
class RunHead:
    """The facts of a run."""

    run: RunInfo
    title: str
    zone: str
    window: str
    approval: str  # the state of its approval in a sentence; "" if it needs none
    is_waiting: bool  # whether a person can decide now
    is_open: bool
    whole_run: str  # the run of which this one is a part; "" if it is none


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
    """Return the facts of a run. Raise RecordsError if the records can't be read."""
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
        whole_run=find_whole_run_of(run),
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
    events = get_events(request).find(run.id) if run.kind == "patch" else ()
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
        events=[build_event_row(event) for event in reversed(events)],
        notes=notes,
        max_hooks=MAX_HOOKS,
        max_shards=MAX_SHARDS,
        order=order,
        wanted_state=state,
    )


def _group_by_wave(rows: list[RunPageMachine]) -> list[WavePart]:
    parts_by_wave: dict[int | None, WavePart] = {}
    for row in rows:
        key = row.line.wave
        parts_by_wave.setdefault(key, WavePart(key, row.line.is_canary, [])).rows.append(row)
    return list(parts_by_wave.values())
