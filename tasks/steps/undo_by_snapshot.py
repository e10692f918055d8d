"""An undo by the snapshot that the earlier run has taken: the provider puts the machine back, as its plan says."""

from dataclasses import replace

from tasks.domain.errors import ProviderError, Unreachable
from tasks.domain.model import Finding, InstallResult, RebootResult, UpdateResult
from tasks.domain.protocols.records import JournalMark
from tasks.domain.provided_machines import SnapshotResult, SnapshotState
from tasks.domain.states import OperationState, RebootState, Step, UndoWay, UpdateState
from tasks.domain.undo import UndoSnapshot
from tasks.rules.runs.snapshots import REVERT_ACT
from tasks.rules.undo import UNDO_CHECK
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.hooks import run_before_hooks
from tasks.steps.snapshot_choice import explain_no_snapshot, find_snapshot
from tasks.steps.snapshot_revert import list_boots, revert
from tasks.steps.start_checks import check_window_fit, explain_stop_request


def revert_as_planned(context: MachineContext) -> MachineState:
    """Put the machine back, and report what is there then. It is the install step of such an undo.

    Raises:
        FleetpatchError: it could not be put back, or it does not answer afterwards.
    """
    plan, snapshot = context.plan, find_snapshot(context)
    if snapshot is None or snapshot.row.snapshot != plan.snapshot:
        raise ProviderError(f"the snapshot {plan.snapshot} of the plan is not in the records any more")
    if not _has_begun(context):
        fit = check_window_fit(context, context.revert_seconds, "the revert")
        if reason := explain_stop_request(context) or ("" if fit.fits else fit.explanation):
            return replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
        if not run_before_hooks(context):
            return context.state
    before = context.facts.boot_id
    _revert(context, snapshot)
    updates = list(plan.chosen)
    now = context.manager.read_installed_versions(context.transport, updates, deadline=context.build_package_deadline())
    results = tuple(
        UpdateResult(update, UpdateState.INSTALLED, "the snapshot has it", now.get(update.id))
        if now.get(update.id) == (update.available or None)
        else UpdateResult(update, UpdateState.FAILED, "the snapshot has another version", now.get(update.id))
        for update in updates
    )
    reboot = RebootResult(RebootState.COMPLETED, "put back to a snapshot", boot_id_before=before, count=1)
    return replace(context.state, install=InstallResult((*results, *plan.skipped)), reboot=reboot, packages_after=None)


def revert_unanswering(context: MachineContext) -> None:
    """Put a machine back that does not answer at all, if a person asks for its snapshot. It is assessed anew then.

    Such a machine has no plan, so that it never is one whose plan must be approved.

    Raises:
        FleetpatchError: it could not be put back, or it does not answer afterwards.
    """
    order, snapshot, state = context.options.undo_order, find_snapshot(context), context.state
    if order is None or order.way is not UndoWay.SNAPSHOT or snapshot is None or context.stop_token.is_stopping:
        return
    if state.plan is not None or state.error is None or not state.error.is_a(Unreachable) or order.must_be_approved:
        return
    if explain_no_snapshot(context) or context.clock.now() >= context.window.end:
        return
    _revert(context, snapshot)
    context.forget_assessment()
    message = f"it did not answer, and was put back to the snapshot of {snapshot.row.ordered_at:%Y-%m-%d %H:%M} UTC"
    context.add_finding(Finding.good(UNDO_CHECK, message))


def _has_begun(context: MachineContext) -> bool:
    entries = context.records.read_entries(context.run.id, context.name)
    return any(entry.act == REVERT_ACT and entry.mark is JournalMark.BEFORE for entry in entries)


def _revert(context: MachineContext, snapshot: UndoSnapshot) -> None:
    row, began = snapshot.row, context.clock.now()
    result = SnapshotResult(row.snapshot, row.ordered_at, row.ordered_at, row.expires_at, row.consistency)
    result = replace(result, boots_before=_recall_boots(context) or list_boots(context))
    detail: dict[str, object] = {"reason": "undo", "boots_before": list(result.boots_before)}
    journal.record_start(context, Step.INSTALL, REVERT_ACT, result.id, detail)
    context.report_progress(Step.INSTALL, "putting it back to its snapshot")
    revert(context, result)
    now = context.clock.now()
    context.run_context.save_snapshot(replace(row, state=SnapshotState.REVERTED, changed_at=now))
    journal.record_end(context, Step.INSTALL, REVERT_ACT, result.id, {"reverted_at": now.isoformat()})
    done = replace(result, reverted_at=now, revert_seconds=(now - began).total_seconds(), revert_note="undone")
    context.state = replace(context.state, snapshot=done)


def _recall_boots(context: MachineContext) -> tuple[str, ...]:
    """Return the boots before a revert that an earlier process of this run has ordered; none: none was ordered."""
    entries = context.records.read_entries(context.run.id, context.name)
    orders = [entry for entry in entries if entry.act == REVERT_ACT and entry.mark is JournalMark.BEFORE]
    boots = orders[0].detail.get("boots_before") if orders else None
    return tuple(map(str, boots)) if isinstance(boots, list | tuple) else ()
