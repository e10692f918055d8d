"""Approves and rejects plans, for the pages and for the API."""

import re
from typing import Final

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.policy_checks import require_machines_of_run
from fleetpatch.web.audit import record_act
from fleetpatch.web.context import WebContext, get_context
from flows.approval.decisions import approve_run, reject_run
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.approvals import Approval

_DIGEST: Final = re.compile(r"[0-9a-f]{12,64}")


def approve_plan(request: Request, run: RunInfo, plan: str, remark: str) -> Approval:
    """Approve exactly the plan that somebody has seen.

    Args:
        request: the request, with the identity.
        run: the run.
        plan: the digest of the plan, or its first 12 characters or more.
        remark: for the report.

    Raises:
        RequestError: it can't be approved, or not by this person.
        RecordsError: the records can't be written.
    """
    context = get_context(request)
    with record_act(request, "approve", run.id, f"plan {plan[:12]}"):
        _require_digest(plan)
        require_machines_of_run(request, Role.APPROVE, run)
        _require_not_stopping(context, run)
        return approve_run(
            run.id,
            get_identity(request).name,
            remark,
            plan=plan,
            login=get_identity(request).name,
            roles=frozenset(get_identity(request).roles),
            records_url=context.settings.records_url,
            clock=get_shared_clock(context),
        )


def reject_plan(request: Request, run: RunInfo, plan: str, remark: str) -> Approval:
    """Reject a plan, so that its run begins nothing. ``plan`` "": whatever the run waits with.

    Raises:
        RequestError: it can't be rejected.
        RecordsError: the records can't be written.
    """
    context = get_context(request)
    with record_act(request, "reject", run.id, f"plan {plan[:12]}" if plan else ""):
        if plan:
            _require_digest(plan)
        require_machines_of_run(request, Role.APPROVE, run)
        return reject_run(
            run.id,
            get_identity(request).name,
            remark,
            plan=plan,
            login=get_identity(request).name,
            roles=frozenset(get_identity(request).roles),
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


def _require_not_stopping(context: WebContext, run: RunInfo) -> None:
    lease = context.records.leases.find_lease(run.id)
    if lease is not None and lease.stop is not None:
        reason = f": {lease.stop.reason}" if lease.stop.reason else ""
        raise RequestError(f"run {run.id} was cancelled by {lease.stop.who}{reason}", hint="Start a new run.")
