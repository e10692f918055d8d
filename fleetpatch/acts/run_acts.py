"""What people and programs do with runs: start, approve, cancel, resume. Forms and the API call the same functions.

Each act is in the audit log before it is done. Prefect executes what is started.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Final

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.flow_runs import (
    ASSESS_FLOW,
    PATCH_FLOW,
    RESUME_FLOW,
    FlowRunStatus,
    cancel_waiting_flow_run,
    read_flow_run,
    start_flow_run,
)
from fleetpatch.acts.policy_checks import check_request, require_machines_of_flow_run, require_machines_of_run
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.web.audit import record_act
from fleetpatch.web.context import WebContext, get_context
from flows.approval.decisions import approve_run, reject_run
from flows.engine.resume_state import require_resumable
from flows.engine.run_info import select_machines
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_origin import REQUEST_KEY_PREFIX
from flows.recovery.cancellation import CancelRequest, cancel_run
from flows.request.base import FormModel
from flows.request.order_request import OrderRequest
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.errors import InventoryError
from inventory.machine import DEFAULT_SITE
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.approvals import Approval, ApprovalDecision
from tasks.records.requested_runs import RequestedRun, SqlRequestedRuns, compute_request_digest
from tasks.records.storage.column_types import replace_unstorable

MAX_KEY_LENGTH: Final = 200
MAX_RESUMES: Final = 50
"""How many flow runs may try to resume a run that no process holds, before somebody has to look."""

_RESUME_SALT: Final = secrets.token_hex(32)
"""Of this process: who may use Prefect can't tell the key of the next attempt, nor use it up."""


class KeyUsedBefore(FleetpatchError):
    """The key of a request was used for another request."""


def build_key() -> str:
    """Return a key for one form: sent twice, it starts one run."""
    return secrets.token_urlsafe(18)


def start_assessment(request: Request, wanted: AssessRequest, key: str) -> str:
    """Start an assessment, and return the id of its flow run.

    Raises:
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    return _start_request(request, "assess", ASSESS_FLOW, wanted, key)


def start_patch(request: Request, wanted: PatchRequest, key: str) -> str:
    """Start a patch run, or with ``dry_run`` a plan, and return the id of its flow run.

    A plan is a dry run of patch-fleet, not a run of plan-fleet: that has a short form without waves, and a server that
    an earlier release deployed has no such deployment.

    Raises:
        KeyUsedBefore: the key was used for other values.
        PolicyRefused: a rule of the policy or the scope of the person's role forbids it.
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    return _start_request(request, "plan" if wanted.dry_run else "patch", PATCH_FLOW, wanted, key)


def start_apply(request: Request, wanted: PatchRequest, key: str) -> str:
    """Start a run that applies what a configuration holds, and return the id of its flow run.

    Raises:
        See ``start_patch``.
    """
    return _start_request(request, "apply maintenance", PATCH_FLOW, wanted, key)


def start_resume(request: Request, run: RunInfo) -> str:
    """Resume a run, and return the id of the flow run that does it. Sent twice, it is the same one for a person.

    Two people get one each: the second one finds that a process executes the run, and begins nothing.

    Raises:
        PolicyRefused: a machine of the run is outside of the scope of the person's role.
        RequestError: the run can't be resumed, or a process executes it.
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    context, identity = get_context(request), get_identity(request)
    with record_act(request, "resume", run.id):
        require_machines_of_run(request, Role.RUN, run)
        require_resumable(run)
        lease = context.records.leases.find_lease(run.id)
        if lease is not None and lease.is_held:
            raise RequestError(
                f"run {run.id} is executed by a process: {lease.holder}", hint="There is nothing to resume."
            )
        attempt = lease.holder.id if lease is not None and lease.holder is not None else ""
        for number in range(MAX_RESUMES):
            key = digest_key(
                _RESUME_SALT, run.id, attempt, identity.name, identity.scopes.get(Role.RUN, ""), str(number)
            )
            flow_run_id, is_over = start_recorded(
                request, RESUME_FLOW, {"run_id": run.id}, key, f"resume {run.id}", run.site
            )
            if not is_over:
                return flow_run_id
        raise RequestError(
            f"run {run.id} could not be resumed {MAX_RESUMES} times", hint="Prefect's log of resume-fleet says why."
        )


def request_cancel(request: Request, run: RunInfo, reason: str) -> CancelRequest:
    """Ask a run to begin nothing more.

    Raises:
        PolicyRefused: a machine of the run is outside of the scope of the person's role.
        RequestError: the run is over, or it changes nothing.
        RecordsError: the records can't be written.
    """
    actor_name, url = get_identity(request).name, get_context(request).settings.records_url
    with record_act(request, "cancel", run.id, reason):
        require_machines_of_run(request, Role.RUN, run)
        return cancel_run(run.id, reason or "cancelled in the pages", Caller(name=actor_name, records_url=url))


def cancel_before_start(request: Request, flow_run_id: str) -> bool:
    """Cancel a flow run that waits for a worker. Return False if it has begun meanwhile, or is over.

    Raises:
        CannotRun: Prefect does not answer, or it can't be said which machines the flow run is about.
        PolicyRefused: a machine of it is outside of the scope of the person's role.
        RecordsError: the records can't be read or written.
    """
    with record_act(request, "cancel", f"flow run {flow_run_id}", "before it began"):
        waiting = read_flow_run(flow_run_id)
        if waiting is None or not waiting.waits:
            return False
        require_machines_of_flow_run(request, waiting)
        SqlRequestedRuns(get_context(request).records.database).cancel(waiting.key)
        return cancel_waiting_flow_run(flow_run_id, get_identity(request).name)


def may_cancel_before_start(request: Request, waiting: FlowRunStatus) -> bool:
    """Return whether a person may cancel a flow run that waits for a worker."""
    if not waiting.waits or Role.RUN not in get_identity(request).roles:
        return False
    try:
        require_machines_of_flow_run(request, waiting)
    except FleetpatchError:
        return False
    return True


def complete_parameters(request: Request, wanted: FormModel) -> Mapping[str, object]:
    """Return the request's parameters. The pages' inventory is the one that the person has seen.

    The run of a configuration has the inventory of that.
    """
    inventory = get_context(request).settings.inventory
    if inventory is not None and getattr(wanted, "inventory", None) is None:
        wanted = wanted.model_copy(update={"inventory": inventory.absolute()})
    # The words of JSON only: Prefect would send the defaults of a newer release to an older one as well.
    parameters: Mapping[str, object] = json.loads(wanted.model_dump_json(exclude_defaults=True))
    return {"request": parameters}


def _start_request(request: Request, act: str, flow: str, wanted: AssessRequest | PatchRequest, key: str) -> str:
    parameters = complete_parameters(request, wanted)
    values = parameters["request"]
    assert isinstance(values, dict)  # noqa: S101 - for the type checker
    scope, actor_name = wanted.scope, get_identity(request).name
    detail = json.dumps({name: value for name, value in values.items() if name != "scope"}, sort_keys=True)[:1000]
    with record_act(request, act, scope, detail):
        check_request(request, wanted)
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise RequestError(
                "the request has no key that makes it unique", hint="Open the form again, and send it from there."
            )
        whole_key = digest_key(act, actor_name, key)
        name = f"{act} {scope[:80]} for {actor_name or 'somebody'}"
        return start_recorded(request, flow, parameters, whole_key, name, find_site_of(request, wanted))[0]


def find_site_of(request: Request, wanted: AssessRequest | PatchRequest | OrderRequest) -> str:
    """Return the site of the machines that a request selects now.

    It is the default site if they are of several, or not known here: the run itself reaches the sites.
    """
    inventory = get_context(request).fleet.read(ACT_WAIT_SECONDS).inventory
    if inventory is None:
        return DEFAULT_SITE
    try:
        sites = sorted({machine.site for machine in select_machines(wanted, inventory)})
    except InventoryError:  # the run says so in its own words
        return DEFAULT_SITE
    return sites[0] if len(sites) == 1 else DEFAULT_SITE


def start_recorded(
    request: Request, flow: str, parameters: Mapping[str, object], key: str, name: str, site: str
) -> tuple[str, bool]:
    """Record who starts it, and only then start it: the flow run looks for the name when it begins."""
    context = get_context(request)
    digest = compute_request_digest(parameters)
    identity = get_identity(request)
    requested_run = RequestedRun(
        key, flow, digest, identity.name, context.clock.now(), identity.scopes.get(Role.RUN, "")
    )
    stored = SqlRequestedRuns(context.records.database).save(requested_run)
    if (stored.request_digest, stored.who, stored.scope) != (
        digest,
        replace_unstorable(requested_run.who),
        requested_run.scope,
    ):
        raise KeyUsedBefore(
            "this request was sent before, with other values, and may have started its run then",
            hint="Look at the runs. A new form, or a new key, starts another one.",
        )
    return start_flow_run(flow, context.settings.fleet, parameters, key=key, name=name, site=site)


def digest_key(*parts: str) -> str:
    """Return Prefect's idempotency key of what these parts tell apart."""
    return REQUEST_KEY_PREFIX + hashlib.sha256("\0".join(parts).encode()).hexdigest()


_DIGEST: Final = re.compile(r"[0-9a-f]{12,64}")


def decide_plan(request: Request, run: RunInfo, decision: ApprovalDecision, plan: str, remark: str) -> Approval:
    """Approve exactly the plan that somebody has seen, or reject it, so that its run begins nothing.

    ``plan``: its digest, or the first 12 characters or more of it. "" rejects whatever the run waits with.

    Raises:
        RequestError: it can't be approved or rejected, or not by this person.
        RecordsError: the records can't be written.
    """
    context, identity = get_context(request), get_identity(request)
    approves = decision is ApprovalDecision.APPROVED
    is_exact = approves or plan != ""
    with record_act(request, "approve" if approves else "reject", run.id, f"plan {plan[:12]}" if is_exact else ""):
        if is_exact:
            _require_digest(plan)
        require_machines_of_run(request, Role.APPROVE, run)
        lease = context.records.leases.find_lease(run.id) if approves else None
        if lease is not None and lease.stop is not None:
            reason = f": {lease.stop.reason}" if lease.stop.reason else ""
            raise RequestError(f"run {run.id} was cancelled by {lease.stop.asker}{reason}", hint="Start a new run.")
        decide = approve_run if approves else reject_run
        return decide(
            run.id,
            identity.name,
            remark,
            plan=plan,
            login=identity.name,
            roles=frozenset(identity.roles),
            records_url=context.settings.records_url,
            clock=get_shared_clock(context),
        )


def get_shared_clock(context: WebContext) -> Clock | None:
    """Return the clock of tests. Otherwise the clock of the database decides, as everywhere."""
    return None if isinstance(context.clock, SystemClock) else context.clock


def _require_digest(plan: str) -> None:
    """Refuse a request without the plan that the person has seen: any plan would be approved."""
    if not _DIGEST.fullmatch(plan):
        raise RequestError("the form does not say which plan it is about", hint="Read the plan below, and decide then.")
