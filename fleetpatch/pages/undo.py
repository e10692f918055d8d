"""The page that asks whether a run is taken back, on all of its machines or on one."""

from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.run_acts import build_key
from fleetpatch.acts.undo_acts import find_shown_snapshots, start_undo
from fleetpatch.pages.run import find_exact_run
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from flows.engine.undo_orders import find_undo_order
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES, UndoWay
from tasks.records.queries.history import History
from tasks.rules.undo import describe_loss, describe_new_packages

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]
MachineName = Annotated[str, Form(max_length=256)]


@router.get("/runs/{run_id}/undo")
def ask_undo(request: Request, run_id: str, machine: str = "") -> Response:
    """Say what an undo does, and ask."""
    return _ask(request, run_id, machine)


@router.post("/runs/{run_id}/undo")
def undo(
    request: Request,
    run_id: str,
    _: Runner,
    machine: MachineName = "",
    by: Annotated[UndoWay, Form()] = UndoWay.PACKAGES,
    dry_run: Annotated[str, Form(max_length=10)] = "",
    once: Annotated[str, Form()] = "",
) -> Response:
    """Start the run that takes the run back, or its plan."""
    run = find_exact_run(get_context(request), run_id)
    try:
        flow_run_id = start_undo(request, run, [machine] if machine else [], once, by=by, dry_run=bool(dry_run))
    except RequestError as error:
        return _ask(request, run_id, machine, error)
    return RedirectResponse(f"/starting/{flow_run_id}", 303)


def _ask(request: Request, run_id: str, machine: str, refusal: RequestError | None = None) -> Response:
    context = get_context(request)
    run = find_exact_run(context, run_id)
    if refusal is None and (run.kind != "patch" or run.state in UNFINISHED_RUN_STATES):
        what = "is not over" if run.kind == "patch" else f"is of kind {run.kind}, and has installed nothing"
        refusal = RequestError(f"run {run.id} {what}", hint="There is nothing to take back.")
    return render_page(
        request,
        "undo.html.j2",
        status=409 if refusal is not None and request.method == "POST" else 200,
        run=run,
        machine=machine,
        refusal=refusal,
        losses=_describe_losses(request, run, machine) if refusal is None else {},
        removed=_describe_removals(context.history, run, machine) if refusal is None else "",
        once=build_key(),
        zone=run.window.zone if run.window else context.settings.zone,
    )


def _describe_losses(request: Request, run: RunInfo, machine: str) -> dict[str, str]:
    """Return what each machine that has a snapshot loses if it goes back to it."""
    now, snapshots = get_context(request).clock.now(), find_shown_snapshots(request, run)
    shown = (name for name in sorted(snapshots) if machine in {"", name})
    return {name: describe_loss(snapshots[name].row.ordered_at, now) for name in shown}


def _describe_removals(history: History, run: RunInfo, machine: str) -> str:
    """Return what an undo by packages removes."""
    try:
        order = find_undo_order(history, run.id)
    except RequestError:  # it has changed nothing: the form says so when it is sent
        return ""
    return describe_new_packages(order, [machine] if machine else sorted(order.changes))
