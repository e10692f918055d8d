"""Approvals: what waits for a person, the whole plan of it, and the decision."""

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.run_acts import decide_plan, get_shared_clock
from fleetpatch.pages.paging import build_page
from fleetpatch.pages.run import find_exact_run, find_run
from fleetpatch.runs.plan_view import PlanView
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from flows.approval.answers import describe_approval, find_approval_objection
from flows.engine.resume_state import parse_recorded_request
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals, read_decided_approvals
from tasks.rules.runs.approval import is_approval_required
from tasks.rules.timing.maintenance_window import describe_window

router = build_viewers_router()


@dataclass(frozen=True, slots=True)
class WaitingPlan:
    """A run that waits, with the figures of its plan. ``plan`` is None if it can't be read; ``problem`` says why."""

    run: RunInfo
    approval: Approval
    plan: PlanView | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """What the page of one approval says about its run now."""

    run: RunInfo
    approval: Approval | None  # None: the run asks for none, or not yet
    sentence: str  # the state of the approval
    is_open: bool  # whether a person can decide now
    objection: str  # why this person may not approve, or ""
    lease: LeaseStatus | None  # which process executes the run, and whether it was asked to stop
    now: datetime

    @property
    def zone(self) -> str:
        """The zone of the run's times."""
        return self.run.window.zone if self.run.window else "UTC"

    @property
    def window(self) -> str:
        """The window as text, or ""."""
        return describe_window(self.run.window) if self.run.window else ""


@router.get("/approvals")
def show_approvals(request: Request) -> HTMLResponse:
    """Show what waits for approval, and what was decided lately."""
    context = get_context(request)
    approvals = _get_approvals(context)
    now = approvals.read_current_time()
    waiting = [_read_waiting(context, pending_approval) for pending_approval in approvals.find_pending_approvals()]
    decided = read_decided_approvals(context.records.database, now)
    return render_page(request, "approvals.html.j2", waiting=waiting, decided=decided, at=now)


@router.get("/approvals/{run_id}")
def show_approval(request: Request, run_id: str, page: int = 1, part: int = 1) -> Response:
    """Show the whole plan of a run, and the form that decides on it."""
    run = find_run(get_context(request), run_id)
    if run.id != run_id:
        return RedirectResponse(f"/approvals/{run.id}", 303)
    return _show_plan(request, run, page=page, part=part)


@router.post("/approvals/{run_id}/approve")
def approve(
    request: Request,
    run_id: str,
    _: Annotated[Identity, Depends(ActPermission(Role.APPROVE))],
    plan: Annotated[str, Form()] = "",
    remark: Annotated[str, Form()] = "",
) -> Response:
    """Approve exactly the plan that the person has seen."""
    return _decide(request, run_id, ApprovalDecision.APPROVED, plan, remark)


@router.post("/approvals/{run_id}/reject")
def reject(
    request: Request,
    run_id: str,
    _: Annotated[Identity, Depends(ActPermission(Role.APPROVE))],
    plan: Annotated[str, Form()] = "",
    remark: Annotated[str, Form()] = "",
) -> Response:
    """Reject a plan, so that its run begins nothing. Without a digest: whatever the run waits with."""
    return _decide(request, run_id, ApprovalDecision.REJECTED, plan, remark)


def _decide(request: Request, run_id: str, decision: ApprovalDecision, plan: str, remark: str) -> Response:
    context = get_context(request)
    run = find_exact_run(context, run_id)
    try:
        decide_plan(request, run, decision, plan, remark)
    except RequestError as error:
        return _show_plan(request, find_run(context, run.id), refusal=error)
    return RedirectResponse(f"/approvals/{run.id}", 303)


def _show_plan(
    request: Request, run: RunInfo, *, page: int = 1, part: int = 1, refusal: RequestError | None = None
) -> HTMLResponse:
    context = get_context(request)
    state = _read_state(context, run, request.state.identity)
    plan = context.plans.read(state.approval) if state.approval is not None else None
    parts = plan.parts if plan is not None else ()
    part = min(max(1, part), max(1, len(parts)))
    return render_page(
        request,
        "approval.html.j2",
        status=409 if refusal is not None else 200,
        state=state,
        plan=plan,
        rows=build_page(request, plan.rows if plan is not None else (), page),
        part=part,
        part_count=len(parts),
        shown_plans=parts[part - 1] if parts else (),
        refusal=refusal,
        is_replaced=plan is not None and state.approval is not None and plan.digest != state.approval.digest,
    )


def _read_state(context: WebContext, run: RunInfo, identity: Identity) -> ApprovalState:
    approvals = _get_approvals(context)
    approval, now = approvals.find_approval(run.id), approvals.read_current_time()
    lease = context.records.leases.find_lease(run.id)
    zone = run.window.zone if run.window else "UTC"
    if approval is None:
        return ApprovalState(run, None, _describe_no_approval(run), is_open=False, objection="", lease=lease, now=now)
    is_waiting = approval.decision is ApprovalDecision.WAITING
    is_open = is_waiting and now < approval.expires_at and run.state in UNFINISHED_RUN_STATES
    sentence = describe_approval(approval, zone)
    if is_waiting and not is_open:
        sentence = (
            f"run {run.id} is over: {run.state}" if now < approval.expires_at else "it expired without a decision"
        )
    return ApprovalState(run, approval, sentence, is_open, _find_objection(run, identity), lease, now)


def _describe_no_approval(run: RunInfo) -> str:
    if run.state not in UNFINISHED_RUN_STATES:
        return "It did not wait for approval: it is over."
    if is_approval_required(run):
        return "Its request asks for approval. It has not come to its plan yet."
    return "It needs no approval."


def _find_objection(run: RunInfo, identity: Identity) -> str:
    """Return why this person could not approve the run. The decision checks it again."""
    if not identity.has_role(Role.APPROVE):
        return "This needs the role approve."
    try:
        name, roles = identity.name, frozenset(identity.roles)
        return find_approval_objection(parse_recorded_request(run), run.started_by, name, login=name, roles=roles)
    except RequestError as error:
        return error.message


def _read_waiting(context: WebContext, approval: Approval) -> WaitingPlan:
    run = context.history.find_run(approval.run_id)
    try:
        return WaitingPlan(run, approval, context.plans.read(approval))
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        return WaitingPlan(run, approval, None, error.message)


def _get_approvals(context: WebContext) -> SqlApprovals:
    return SqlApprovals(context.records.database, get_shared_clock(context))
