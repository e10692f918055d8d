"""Assess, cancel and resume; and the page that waits until a run that was started is there."""

from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.flow_runs import LATE_SECONDS, RESUME_FLOW, FlowRunStatus, read_flow_run
from fleetpatch.acts.patch_form import preview_scope
from fleetpatch.acts.run_acts import (
    build_key,
    cancel_before_start,
    may_cancel_before_start,
    request_cancel,
    start_assessment,
    start_resume,
)
from fleetpatch.pages.run import find_exact_run
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from flows.engine.resume_state import require_resumable
from flows.recovery.cancellation import require_cancellable
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import RequestError
from tasks.records.machine_orders import SqlMachineOrders

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]


@router.get("/assess")
def show_assess(request: Request, scope: str = "*") -> Response:
    """Show the form of an assessment."""
    preview = preview_scope(get_context(request).fleet.read(), scope)
    return render_page(request, "assess.html.j2", scope=scope, preview=preview, once=build_key(), quiet=())


@router.post("/assess")
def assess(
    request: Request,
    _: Runner,
    scope: Annotated[str, Form()] = "*",
    machine: Annotated[list[str] | None, Form()] = None,
    once: Annotated[str, Form()] = "",
) -> Response:
    """Assess the machines of a scope, or some of them, now."""
    try:
        assess_request = AssessRequest(scope=scope.strip(), only_machines=machine or [])
    except ValidationError as error:
        raise RequestError(f"scope: {error.errors()[0]['msg']}", hint="Correct the scope.") from error
    preview = preview_scope(get_context(request).fleet.read(), assess_request.scope, assess_request.only_machines)
    if preview.error and get_context(request).fleet.read().inventory is not None:
        raise RequestError(preview.error, hint=preview.hint)
    return RedirectResponse(f"/starting/{start_assessment(request, assess_request, once)}", 303)


@router.get("/starting/{flow_run_id}")
def show_starting(request: Request, flow_run_id: str) -> Response:
    """Show how a run that was started comes to its worker, and go on to its page when it has begun."""
    context = get_context(request)
    status = None
    url = _find_url(context, flow_run_id)
    if not url:
        status = read_flow_run(flow_run_id)
        if status is None:
            raise HTTPException(404, "Nothing was started here with this id.")
        url = _find_url(context, flow_run_id)  # it may have begun while Prefect was asked
    is_part = request.headers.get("hx-request") == "true"
    if url:
        return Response(headers={"HX-Redirect": url}) if is_part else RedirectResponse(url, 303)
    assert status is not None  # noqa: S101 - for the type checker
    template = "starting_part.html.j2" if is_part else "starting.html.j2"
    return render_page(
        request,
        template,
        flow_run=status,
        is_late=_is_late(context, status),
        may_cancel=may_cancel_before_start(request, status),
        is_resume=status.flow == RESUME_FLOW,
    )


@router.post("/starting/{flow_run_id}/cancel")
def cancel_starting(request: Request, flow_run_id: str, _: Runner) -> Response:
    """Cancel a flow run that no worker has taken yet. One that has begun is cancelled as a run, on its own page."""
    if not cancel_before_start(request, flow_run_id):
        run_id = _find_run_id(get_context(request), flow_run_id)
        if run_id:
            return RedirectResponse(f"/runs/{run_id}/cancel", 303)
    return RedirectResponse(f"/starting/{flow_run_id}", 303)


@router.get("/runs/{run_id}/cancel")
def ask_cancel(request: Request, run_id: str) -> Response:
    """Say what a cancellation does, and ask."""
    return _ask(request, run_id, "cancel")


@router.post("/runs/{run_id}/cancel")
def cancel(request: Request, run_id: str, _: Runner, reason: Annotated[str, Form(max_length=500)] = "") -> Response:
    """Ask the run to begin nothing more."""
    run = find_exact_run(get_context(request), run_id)
    try:
        request_cancel(request, run, reason.strip())
    except RequestError as error:
        return _ask(request, run_id, "cancel", error)
    return RedirectResponse(f"/runs/{run.id}", 303)


@router.get("/runs/{run_id}/resume")
def ask_resume(request: Request, run_id: str) -> Response:
    """Say what a resumed run does, and ask."""
    return _ask(request, run_id, "resume")


@router.post("/runs/{run_id}/resume")
def resume(request: Request, run_id: str, _: Runner) -> Response:
    """Resume the run in a flow run of its own."""
    run = find_exact_run(get_context(request), run_id)
    try:
        flow_run_id = start_resume(request, run)
    except RequestError as error:
        return _ask(request, run_id, "resume", error)
    return RedirectResponse(f"/starting/{flow_run_id}", 303)


def _ask(request: Request, run_id: str, act: str, refusal: RequestError | None = None) -> Response:
    context = get_context(request)
    run = find_exact_run(context, run_id)
    lease = context.records.leases.find_lease(run.id)
    if refusal is None:
        try:
            require_cancellable(run) if act == "cancel" else require_resumable(run)
        except RequestError as error:
            refusal = error
    is_held = lease is not None and lease.is_held
    if refusal is None and act == "cancel" and lease is not None and lease.stop is not None:
        refusal = RequestError(
            f"run {run.id} was cancelled already by {lease.stop.asker}", hint="The first request counts."
        )
    if refusal is None and act == "resume" and is_held and lease is not None:
        refusal = RequestError(f"run {run.id} is executed by a process: {lease.holder}", hint="Nothing is to resume.")
    return render_page(
        request,
        "run_act.html.j2",
        status=409 if refusal is not None and request.method == "POST" else 200,
        run=run,
        act=act,
        lease=lease,
        is_held=is_held,
        refusal=refusal,
        zone=run.window.zone if run.window else context.settings.zone,
    )


def _find_url(context: WebContext, flow_run_id: str) -> str:
    """Return the page of the run or the order that has begun in a flow run; "" before that."""
    run_id = _find_run_id(context, flow_run_id)
    if run_id:
        return f"/runs/{run_id}"
    has_begun = SqlMachineOrders(context.records.database).read_order(flow_run_id)
    return f"/orders/{flow_run_id}" if has_begun else ""


def _find_run_id(context: WebContext, flow_run_id: str) -> str:
    run = context.history.find_run_by_flow_run(flow_run_id)
    return run.id if run is not None else ""


def _is_late(context: WebContext, status: FlowRunStatus) -> bool:
    if not status.waits or status.created_at is None:
        return False
    return (context.clock.now() - status.created_at).total_seconds() > LATE_SECONDS
