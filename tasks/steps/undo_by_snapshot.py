"""An undo by the snapshot that the earlier run has taken: the provider puts the machine back, as its plan says."""

from dataclasses import replace

from tasks.domain.errors import FleetpatchError, ManagerBusy, ProviderError, Unreachable, WayUnreachable
from tasks.domain.model import Finding, InstallResult, RebootResult, UpdateResult
from tasks.domain.provided_machines import SnapshotResult, SnapshotState
from tasks.domain.states import FindingLevel, OperationState, RebootState, Step, UndoWay, UpdateState
from tasks.domain.undo import UndoSnapshot
from tasks.rules.machine_checks.packages import clear_reverted_warnings
from tasks.rules.runs.snapshots import REVERT_ACT
from tasks.rules.undo import UNDO_CHECK
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.hooks import run_before_hooks
from tasks.steps.machine.lock_removal import lock_machine, remove_undone_lock
from tasks.steps.machine.reboot_watch import read_boot_id
from tasks.steps.machine.retry import is_transient
from tasks.steps.snapshot_choice import explain_no_snapshot, find_snapshot
from tasks.steps.snapshot_revert import NotReverted, date_revert, find_progress, list_boots, revert, wait_for_others
from tasks.steps.start_checks import check_window_fit, explain_stop_request


def revert_as_planned(context: MachineContext) -> MachineState:
    """Put the machine back, and report what is there then. It is the install step of such an undo.

    Raises:
        FleetpatchError: it could not be put back, or it does not answer afterwards.
    """
    plan, snapshot = context.plan, find_snapshot(context)
    if snapshot is None or snapshot.row.snapshot != plan.snapshot:
        raise ProviderError(f"the snapshot {plan.snapshot} of the plan is not in the records any more")
    if not find_progress(context, snapshot.row.snapshot).has_begun:
        if reason := _explain_no_start(context):
            return replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
        if not run_before_hooks(context):
            return context.state
        if reason := wait_for_others(context) or _explain_no_start(context):
            return replace(context.state, halted=reason, halted_as=OperationState.NOT_STARTED)
    try:
        boots = _revert(context, snapshot).boots_before
    except NotReverted as error:
        if not isinstance(error.__cause__, FleetpatchError) or not is_transient(error.__cause__):
            raise
        return replace(context.state, halted=error.message, halted_as=OperationState.NOT_STARTED)
    except FleetpatchError as error:
        reason = f"whether it was put back was not seen: {error.message}"
        unseen = (UpdateResult(update, UpdateState.PENDING, reason) for update in plan.chosen)
        context.state = replace(context.state, install=InstallResult((*unseen, *plan.skipped)))
        raise
    lock = lock_machine(context).finding  # that of this run was on the disk that is gone
    if lock.level is FindingLevel.BLOCK:
        raise ManagerBusy(f"it was put back, and {lock.message}", machine=context.name, hint=lock.remedy)
    updates = list(plan.chosen)
    now = context.manager.read_installed_versions(context.transport, updates, deadline=context.build_package_deadline())
    results = tuple(
        UpdateResult(update, UpdateState.INSTALLED, "the snapshot has it", now.get(update.id))
        if now.get(update.id) == (update.available or None)
        else UpdateResult(update, UpdateState.FAILED, "the snapshot has another version", now.get(update.id))
        for update in updates
    )
    after = read_boot_id(context) or ""
    reboot = RebootResult(
        RebootState.COMPLETED,
        "put back to a snapshot",
        boot_id_before=boots[-1] if boots else "",  # an earlier process of the run may have put it back
        boot_id_after=after,
        count=1,
    )
    return replace(
        context.state,
        install=InstallResult((*results, *plan.skipped)),
        reboot=reboot,
        packages_after=None,
        findings=clear_reverted_warnings(
            context.state.findings, {probe.name for probe in context.state.machine.probes}
        ),
    )


def _explain_no_start(context: MachineContext) -> str:
    fit = check_window_fit(context, context.revert_seconds, "the revert")
    return explain_stop_request(context) or ("" if fit.fits else fit.explanation)


def revert_unanswering(context: MachineContext) -> None:
    """Put a machine back that does not answer at all, if a person has named it. It is assessed anew then.

    Such a machine has no plan, so that it never is one whose plan must be approved. What an earlier process of the run
    has begun is completed, however the machine and the run are now.

    Raises:
        FleetpatchError: it could not be put back, or it does not answer afterwards.
    """
    order, snapshot, state = context.options.undo_order, find_snapshot(context), context.state
    if order is None or order.way is not UndoWay.SNAPSHOT or snapshot is None or state.plan is not None:
        return
    if not find_progress(context, snapshot.row.snapshot).has_begun:
        if state.error is None or not state.error.is_a(Unreachable):
            return
        if reason := _explain_no_blind_revert(context):
            context.add_finding(Finding.warn(UNDO_CHECK, f"it is not put back: {reason}", "Look at the machine."))
            return
    _revert(context, snapshot)
    _unlock(context, order.run_id)
    context.forget_assessment()
    message = f"it did not answer, and was put back to the snapshot of {snapshot.row.ordered_at:%Y-%m-%d %H:%M} UTC"
    context.add_finding(Finding.good(UNDO_CHECK, message))


def _unlock(context: MachineContext, run_id: str) -> None:
    """Remove the lock that came back with the snapshot. Nothing may be left to do: no step would take it over."""
    try:
        remove_undone_lock(context)
    except FleetpatchError as error:
        message = f"the lock of run {run_id} came back with the snapshot, and may still be there: {error.message}"
        context.add_finding(Finding.warn(UNDO_CHECK, message, f"fleetpatch unlock {context.name}"))


def _explain_no_blind_revert(context: MachineContext) -> str:
    """Return why a machine that does not answer is not put back, or ""."""
    order, error = context.options.undo_order, context.state.error
    if order is None or not order.takes_unanswering:
        return "it does not answer, and nobody has named it"
    if order.must_be_approved:
        return "it does not answer, so nobody could approve its plan"
    if error is not None and error.is_a(WayUnreachable):
        return f"the way to it is broken, and the machine itself may be good: {error.message}"
    return explain_no_snapshot(context) or _explain_no_start(context)


def _revert(context: MachineContext, snapshot: UndoSnapshot) -> SnapshotResult:
    row, began = snapshot.row, context.clock.now()
    progress = find_progress(context, row.snapshot)
    result = SnapshotResult(row.snapshot, row.ordered_at, row.ordered_at, row.expires_at, row.consistency)
    result = replace(result, boots_before=progress.boots_before if progress.has_begun else list_boots(context))
    if not progress.has_begun:
        detail: dict[str, object] = {"reason": "undo", "boots_before": list(result.boots_before)}
        journal.record_start(context, Step.INSTALL, REVERT_ACT, result.id, detail)
    context.report_progress(Step.INSTALL, "it goes back to its snapshot")
    revert(context, result, progress, Step.INSTALL)
    done = replace(date_revert(context, result, progress, began), revert_note="undone")
    now = context.clock.now()
    context.run_context.save_snapshot(replace(row, state=SnapshotState.REVERTED, changed_at=now))
    journal.record_end(context, Step.INSTALL, REVERT_ACT, result.id, {"reverted_at": now.isoformat()})
    context.state = replace(context.state, snapshot=done)
    return done
