"""The API's routes that do something. Each needs its role, and is in the audit log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.component_acts import enrol_component, start_upgrade, unenrol_component
from fleetpatch.acts.event_acts import approve_scheduled_event, withdraw_scheduled_event
from fleetpatch.acts.image_acts import start_image_upgrade
from fleetpatch.acts.order_acts import set_owner, start_order
from fleetpatch.acts.patch_form import preview_scope
from fleetpatch.acts.run_acts import (
    MAX_KEY_LENGTH,
    decide_plan,
    get_shared_clock,
    request_cancel,
    start_assessment,
    start_patch,
    start_resume,
)
from fleetpatch.acts.undo_acts import start_undo
from fleetpatch.api import models
from fleetpatch.api.dependencies import allow_act
from fleetpatch.api.problems import describe_problems
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.pages.run import find_exact_run
from fleetpatch.web.context import get_context
from flows.request.base import FormModel
from flows.request.order_request import OrderRequest
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import FleetpatchError, PolicyRefused, RequestError
from tasks.domain.rows.approvals import ApprovalRow
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.records.approvals import ApprovalDecision, SqlApprovals, build_approval_row
from tasks.rules.scheduled_events import build_event_row

router = APIRouter(responses=describe_problems(404, 408, 409, 413, 415))
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="Unique for each wanted run. The same key again starts nothing, and gives the same answer.",
    ),
]
NOT_BY_TOKEN: Final = (
    "component",
    "component_version",
    "configuration",
    "hooks",
    "inventory",
    "maintenance",
    "notify",
    "outside_window",
    "report_directory",
    "roll_back",
    "shard",
    "shard_limits",
    "undo_by",
    "undo_of",
    "undo_unreachable",
)
"""What a request of the API may not set: hooks are commands on the controller, and paths are its files. They belong to
files that administrators write. The runs of a configuration are started by its schedule, and those of a component
and undos by requests of their own.
"""
RUN, APPROVE = allow_act(Role.RUN), allow_act(Role.APPROVE)


@router.post("/assess", status_code=202, dependencies=RUN, tags=["Acts"])
def assess(request: Request, wanted: AssessRequest, idempotency_key: Key) -> models.StartedRun:
    """Assess machines now."""
    _check_fields(wanted)
    _check_scope(request, wanted)
    return describe_started(request, start_assessment(request, wanted, idempotency_key))


@router.post("/plan", status_code=202, dependencies=RUN, tags=["Acts"])
def plan(request: Request, wanted: PatchRequest, idempotency_key: Key) -> models.StartedRun:
    """Plan a patch run. Nothing is changed, whatever `dry_run` says."""
    dry = wanted.model_copy(update={"dry_run": True})
    _check(request, dry)
    return describe_started(request, start_patch(request, dry, idempotency_key))


@router.post("/patch", status_code=202, dependencies=RUN, tags=["Acts"])
def patch(request: Request, wanted: PatchRequest, idempotency_key: Key) -> models.StartedRun:
    """Patch machines inside a window that opens now, or at its start."""
    _check(request, wanted)
    return describe_started(request, start_patch(request, wanted, idempotency_key))


@router.post("/orders", status_code=202, dependencies=RUN, tags=["Acts"])
def order(request: Request, wanted: OrderRequest, idempotency_key: Key) -> models.StartedRun:
    """Change the enrolment for hotpatches, or switch the systems' own updaters, on machines of one site."""
    _check_fields(wanted)
    _check_scope(request, wanted)
    return describe_started(request, start_order(request, wanted, idempotency_key))


@router.post("/owners", dependencies=RUN, tags=["Acts"])
def change_owner(request: Request, wanted: models.OwnerChange) -> models.OwnerChanged:
    """Write into the inventory who patches machines. Asked twice, the second time changes nothing."""
    report = set_owner(request, wanted.machines, wanted.owner, dry_run=wanted.dry_run)
    return models.OwnerChanged(machines=list(report.rows), diff=report.build_diff(context=0))


@router.post("/components/{name}/enroll", dependencies=RUN, tags=["Acts"])
def enroll_component(request: Request, name: str, body: models.ComponentScope) -> models.ComponentEnrolmentState:
    """Let minor versions of a component come by themselves on the machines of a scope. Sent again, nothing changes."""
    message = enrol_component(request, name, body.scope)
    return models.ComponentEnrolmentState(component_name=name, scope=body.scope, enrolled=True, message=message)


@router.post("/components/{name}/unenroll", dependencies=RUN, tags=["Acts"])
def unenroll_component(request: Request, name: str, body: models.ComponentScope) -> models.ComponentEnrolmentState:
    """End an enrolment. Its scope is the text with which it was enrolled."""
    message = unenrol_component(request, name, body.scope)
    return models.ComponentEnrolmentState(component_name=name, scope=body.scope, enrolled=False, message=message)


@router.post("/components/{name}/upgrade", status_code=202, dependencies=RUN, tags=["Acts"])
def upgrade_component(
    request: Request, name: str, body: models.ComponentUpgradeBody, idempotency_key: Key
) -> models.StartedRun:
    """Upgrade a component on the machines of a scope: canaries first, in batches, with the way back."""
    started = start_upgrade(request, name, body.scope, body.version, idempotency_key, dry_run=body.dry_run)
    return describe_started(request, started)


@router.post("/images/{name}/upgrade", status_code=202, dependencies=RUN, tags=["Acts"])
def upgrade_images(
    request: Request, name: str, body: models.ImageUpgradeBody, idempotency_key: Key
) -> models.StartedRun:
    """Give the machines of a group new OS disks, in batches. Data disks stay. Azure: osRollingUpgrade."""
    started = start_image_upgrade(
        request, name, body.version, idempotency_key, roll_back=body.roll_back, dry_run=body.dry_run
    )
    return describe_started(request, started)


@router.post("/runs/{run_id}/cancel", status_code=202, dependencies=RUN, tags=["Acts"])
def cancel(request: Request, run_id: str, body: models.CancelBody | None = None) -> models.Cancelled:
    """Ask a run to begin nothing more; nothing is killed. Asked again: the first request, or 409 if it is over."""
    run = find_exact_run(get_context(request), run_id)
    with report_conflict():
        asked = request_cancel(request, run, body.reason.strip() if body is not None else "")
    return models.Cancelled(
        maintenance_run_id=run.id,
        stop_requested_by=asked.stop_request.who,
        stop_reason=asked.stop_request.reason,
        stop_requested_date_time=asked.stop_request.at,
        executed=asked.has_active_holder,
        executed_by=str(asked.lease.holder) if asked.lease is not None and asked.has_active_holder else None,
    )


@router.post("/runs/{run_id}/resume", status_code=202, dependencies=RUN, tags=["Acts"])
def resume(request: Request, run_id: str) -> models.StartedRun:
    """Resume a run that no process executes. Asked twice by a person, it is resumed once; 409 if a process has it."""
    run = find_exact_run(get_context(request), run_id)
    with report_conflict():
        return describe_started(request, start_resume(request, run), run.id)


@router.post("/runs/{run_id}/undo", status_code=202, dependencies=RUN, tags=["Acts"])
def undo(request: Request, run_id: str, body: models.UndoBody, idempotency_key: Key) -> models.StartedRun:
    """Take back what a run has installed, by packages or `by` snapshots: a run of its own. `dry_run`: only its plan."""
    run = find_exact_run(get_context(request), run_id)
    started = start_undo(
        request,
        run,
        body.machines,
        idempotency_key,
        exclude=body.exclude,
        minutes=body.minutes,
        reboot=body.reboot,
        allow_removals=body.allow_removals,
        by=body.by,
        dry_run=body.dry_run,
    )
    return describe_started(request, started)


@router.post("/approvals/{run_id}/approve", dependencies=APPROVE, tags=["Approvals"])
def approve(request: Request, run_id: str, decision: models.Consent) -> ApprovalRow:
    """Approve exactly the plan of the digest. Who started the run may not. Sent again, it gives the same answer."""
    return _decide(request, run_id, ApprovalDecision.APPROVED, decision)


@router.post("/approvals/{run_id}/reject", dependencies=APPROVE, tags=["Approvals"])
def reject(request: Request, run_id: str, decision: models.Rejection) -> ApprovalRow:
    """Reject a plan, so that its run begins nothing. Sent again, it gives the same answer."""
    return _decide(request, run_id, ApprovalDecision.REJECTED, decision)


@router.post("/events/{event_id}/approve", dependencies=RUN, tags=["Events"])
def approve_event(request: Request, event_id: str) -> ScheduledEventRow:
    """Let a scheduled event begin now, for all its machines. Asked again, it gives the same answer."""
    with report_conflict():
        return build_event_row(approve_scheduled_event(request, event_id))


@router.post("/events/{event_id}/withdraw", dependencies=RUN, tags=["Events"])
def withdraw_event(request: Request, event_id: str, body: models.CancelBody | None = None) -> ScheduledEventRow:
    """Withdraw a scheduled event, so that its run does not interrupt the machine."""
    with report_conflict():
        return build_event_row(withdraw_scheduled_event(request, event_id, body.reason.strip() if body else ""))


def _decide(request: Request, run_id: str, wanted: ApprovalDecision, decision: models.Rejection) -> ApprovalRow:
    """Decide on a plan, unless this very person did so before: the answer to the first request may be lost."""
    context = get_context(request)
    run = find_exact_run(context, run_id)
    made = SqlApprovals(context.records.database, get_shared_clock(context)).find_approval(run.id)
    is_own = made is not None and (made.decision, made.who) == (wanted, get_identity(request).name)
    with report_conflict():
        if made is None or not is_own or not made.digest.startswith(decision.plan):
            made = decide_plan(request, run, wanted, decision.plan, decision.remark)
    return build_approval_row(made)


class StateConflict(FleetpatchError):
    """What was asked for is not possible in the present state of the run."""


@contextmanager
def report_conflict() -> Iterator[None]:
    """Report a refusal by the state of a run as 409: the request itself is valid."""
    try:
        yield
    except PolicyRefused:
        raise
    except RequestError as error:
        raise StateConflict(error.message, hint=error.hint) from error


def _check_fields(wanted: FormModel) -> None:
    refused = sorted(wanted.model_fields_set & set(NOT_BY_TOKEN))
    if refused:
        raise RequestError(
            f"{', '.join(refused)}: this can't be set through the API", hint="Leave it out, or use a configuration."
        )


def _check(request: Request, wanted: PatchRequest) -> None:
    _check_fields(wanted)
    now = get_context(request).clock.now()
    if wanted.window.to_window(now).end <= now:
        raise RequestError("this window is over", hint="Leave the start out for a window that opens now.")
    _check_scope(request, wanted)


def _check_scope(request: Request, wanted: AssessRequest | PatchRequest | OrderRequest) -> None:
    snapshot = get_context(request).fleet.read(ACT_WAIT_SECONDS)
    preview = preview_scope(snapshot, wanted.scope, wanted.only_machines)
    if preview.error and snapshot.inventory is not None:
        raise RequestError(f"scope: {preview.error}", hint=preview.hint)


def describe_started(request: Request, flow_run_id: str, run_id: str = "") -> models.StartedRun:
    """Return the answer about a flow run that was asked for."""
    run = get_context(request).history.find_run_by_flow_run(flow_run_id)
    return models.StartedRun(
        flow_run_id=flow_run_id,
        maintenance_run_id=run_id or (run.id if run is not None else None),
        status=f"/api/v1/flow-runs/{flow_run_id}",
    )
