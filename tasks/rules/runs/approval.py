"""Compares a plan with the approved plan, and computes plan digests. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunInfo, RunReport, UpdateResult
from tasks.domain.states import UpdateState

ChangePolicy = Literal["refuse", "trim"]
ApprovedUpdates = Mapping[str, Mapping[str, str]]
"""Machine -> update id -> version."""

UNKNOWN_STARTER = "unknown user of Prefect"
"""The starter of a run from Prefect's UI or API. Prefect does not know the person."""
AUTOMATIC_STARTER = "automatic patching"
"""The starter of a run that a rollout has decided on. It is no person, so it approves nothing and may not more."""
MAINTENANCE_STARTER = "maintenance control"
"""The starter of a run that applies what was held, after its last day. It is no person either."""
SCHEDULE_STARTER = "the schedule of "
"""Begins the starter of a run that a schedule has started; then its deployment follows."""
RECONCILE_STARTER = "reconcile"
"""Who resumes or finalizes a run whose process died, unless a person asks for it."""
_NO_PERSONS = (UNKNOWN_STARTER, AUTOMATIC_STARTER, MAINTENANCE_STARTER)
DIGEST_PREFIX_LENGTH = 12
_ACT_FIELDS = (
    "reboot", "reboot_pending_first", "reboot_if_live_patched", "live_patched_reboot_days", "repair",
    "remove_unused_kernels", "restart_services", "restart_services_exclude", "hooks",
)  # fmt: skip
"""The fields of a request that change machines beside the updates of the plan."""


def is_starter_known(started_by: str) -> bool:
    """Return whether the starter of a run is known, to check that another person approves it."""
    return bool(started_by.strip()) and not started_by.startswith(_NO_PERSONS)


def is_person(started_by: str) -> bool:
    """Return whether a person has started a run, and no schedule or program."""
    return is_starter_known(started_by) and not started_by.startswith((SCHEDULE_STARTER, RECONCILE_STARTER))


def build_approve_command(run_id: str, digest_shown: str) -> str:
    """Return the command that approves exactly the displayed plan, and no later version of it."""
    return f"fleetpatch approve {run_id} --plan {digest_shown[:DIGEST_PREFIX_LENGTH]}"


def is_approval_required(run: RunInfo) -> bool:
    """Return whether the request of a run requires an approval."""
    approval = run.request.get("approval")
    return isinstance(approval, Mapping) and bool(approval.get("required"))


def is_rehearsal_required(run: RunInfo) -> bool:
    """Return whether machines of a run get only what a copy got before."""
    rehearse = run.request.get("rehearse")
    if not isinstance(rehearse, Mapping) or not rehearse.get("on_copies") or not rehearse.get("strict", True):
        return False
    return not run.request.get("dry_run") and not run.request.get("download_only")


def collect_planned_updates(plans: Iterable[MachinePlan]) -> dict[str, dict[str, str]]:
    """Return the updates that plans would install, for each machine; also for machines without updates."""
    return {plan.machine: {update.id: update.available for update in plan.chosen} for plan in plans}


def compute_plan_digest(approved: ApprovedUpdates, request: Mapping[str, object]) -> str:
    """Return a digest of what is approved: the updates for each machine, reboots, restarts, repairs and hooks.

    The order does not change the digest. Machines without updates do not change it either.
    """
    rows = sorted((machine, *update) for machine, updates in approved.items() for update in updates.items())
    acts = {field: request.get(field) for field in _ACT_FIELDS}
    return hashlib.sha256(json.dumps([rows, acts], sort_keys=True, default=str).encode()).hexdigest()


def compute_report_digest(report: RunReport) -> str:
    """Return the digest of the plan that a run has."""
    return compute_plan_digest(collect_planned_updates(report.plans), report.run.request)


def restrict_new_plan(run: RunInfo, plan: MachinePlan, previous: MachinePlan) -> MachinePlan:
    """Return a plan that was made again. It has nothing that was to be approved or rehearsed before, and was not."""
    needs_approval = is_approval_required(run)
    if not needs_approval and not is_rehearsal_required(run):
        return plan
    limit = "a person approved" if needs_approval else "a rehearsal tried"
    return _restrict(plan, collect_planned_updates([previous]), "trim", limit)


def restrict_to_approved(plan: MachinePlan, approved: ApprovedUpdates, change: ChangePolicy, by: str) -> MachinePlan:
    """Return a plan that installs only approved updates; the same object when nothing differs.

    If the plan differs from the approved plan, ``refuse`` installs nothing on the machine, and ``trim`` what is in both
    plans. ``by`` is the person who approved, for reasons.
    """
    return _restrict(plan, approved, change, f"{by} approved")


def _restrict(plan: MachinePlan, approved: ApprovedUpdates, change: ChangePolicy, limit: str) -> MachinePlan:
    items = approved.get(plan.machine, {})
    now = {update.id: update.available for update in plan.chosen}
    if now == items:
        return plan
    if change == "refuse":
        reason = f"the plan of this machine is no longer what {limit}: {_describe_differences(now, items)}"
        return _leave_out_updates(plan, {update.id: reason for update in plan.chosen}, reason)
    extra = {
        name: f"{limit} {items[name]}, and not {version}, which is offered now"
        if name in items
        else f"not part of what {limit}"
        for name, version in now.items()
        if items.get(name) != version
    }
    note = f"cut down to what {limit}: {_describe_differences(now, items)}"
    return _leave_out_updates(plan, extra, note) if extra else plan


def _leave_out_updates(plan: MachinePlan, left_out: Mapping[str, str], note: str) -> MachinePlan:
    out = tuple(
        UpdateResult(update, UpdateState.NOT_SELECTED, left_out[update.id], update.installed)
        for update in plan.chosen
        if update.id in left_out
    )
    updates = tuple(update for update in plan.chosen if update.id not in left_out)
    return replace(plan, chosen=updates, skipped=(*plan.skipped, *out), notes=(*plan.notes, note))


def _describe_differences(now: Mapping[str, str], items: Mapping[str, str]) -> str:
    new = sorted(f"{name} {version}" for name, version in now.items() if items.get(name) != version)
    removed = sorted(f"{name} {version}" for name, version in items.items() if name not in now)
    parts = [f"{join_first_names(names)} {verb}" for names, verb in ((new, "came in"), (removed, "went")) if names]
    return "; ".join(parts)
