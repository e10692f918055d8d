"""What of an earlier run goes back on one machine, and by which means.

To go back is an installation like any other: of older versions. So the pre-check, the detached job, the reboot and the
validation are those of any run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tasks.domain.model import Finding, Update, UpdateResult
from tasks.domain.protocols.package_manager import InstalledKernels, PackageNeeds
from tasks.domain.states import UndoWay, UpdateState
from tasks.domain.undo import InstalledChange, UndoMeans, UndoOrder
from tasks.rules.undo import (
    UNDO_CHECK,
    UndoChoice,
    choose_all_changes,
    choose_changes,
    describe_other_way,
    describe_plan,
    describe_snapshot_plan,
    keep_reverted,
)
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.snapshot_choice import explain_no_snapshot, find_snapshot


def get_undo_order(context: MachineContext) -> UndoOrder:
    """Return what an undo takes back."""
    order = context.options.undo_order
    if order is None:
        raise ValueError(f"run {context.run.id} is no undo")
    return order


def choose_means(context: MachineContext) -> tuple[UndoMeans | None, str]:
    """Return how a machine goes back, or None and why it can't in any way."""
    if get_undo_order(context).way is UndoWay.SNAPSHOT:
        means, obstacle = UndoMeans.SNAPSHOT, explain_no_snapshot(context)
    else:
        means, obstacle = UndoMeans.PACKAGE_MANAGER, context.manager.way_back.obstacle
    return (None, f"{means}: {obstacle}") if obstacle else (means, "")


def choose_ways_back(context: MachineContext) -> UndoChoice:
    """Return what goes back on a machine, and why all else stays. What is only pending is left out."""
    order, means = get_undo_order(context), choose_means(context)
    changes = order.changes.get(context.name, ())
    now: Mapping[str, str] = {}
    kernels, needs = InstalledKernels(), PackageNeeds()
    if means[0] is not None and changes:
        deadline = context.build_package_deadline()
        # "available" is the version that is asked for where several are installed: of kernels
        asked = [replace(change.update, available=change.after) for change in changes]
        now = context.manager.read_installed_versions(context.transport, asked, deadline=deadline)
        if not context.manager.way_back.removes:  # else there are no packages of kernels
            kernels = context.manager.read_kernels(context.transport, deadline=deadline)
            if new := [change.update for change in changes if change.update.installed is None]:
                needs = context.manager.read_needs(context.transport, new, deadline=deadline)
    alone = f"this run takes run {order.run_id} back, and does nothing else"
    snapshot = find_snapshot(context)
    if means[0] is UndoMeans.SNAPSHOT and snapshot is not None:
        choice = choose_all_changes(changes, now, snapshot.row.snapshot)
        if context.state.snapshot is not None and context.state.snapshot.reverted_at is not None:
            choice = keep_reverted(choice)
        pending = (UpdateResult(u, UpdateState.NOT_SELECTED, alone) for u in context.packages.updates)
        return replace(choice, skipped=(*choice.skipped, *_leave_out(pending, changes)))
    choice = choose_changes(
        changes,
        now,
        kernels,
        context.packages.held,
        context.options.selection,
        order.run_id,
        needs=needs,
        removes=context.manager.way_back.removes,
    )
    if means[0] is None:
        stays = tuple(UpdateResult(update, UpdateState.BLOCKED, means[1]) for update in choice.back)
        others = (
            replace(result, state=UpdateState.BLOCKED, reason=means[1]) if result.update.goes_back else result
            for result in choice.skipped
        )
        choice = UndoChoice((), (*stays, *others))
    pending = (UpdateResult(u, UpdateState.NOT_SELECTED, alone) for u in context.packages.updates)
    return UndoChoice(choice.back, (*choice.skipped, *_leave_out(pending, changes)))


def _leave_out(pending: Iterable[UpdateResult], changes: Sequence[InstalledChange]) -> tuple[UpdateResult, ...]:
    """Return results of updates that are only pending: the undo has something to say of the others."""
    ids = {change.update.id for change in changes}
    return tuple(result for result in pending if result.update.id not in ids)


def describe_ways_back(
    context: MachineContext, chosen: tuple[Update, ...], skipped: tuple[UpdateResult, ...]
) -> tuple[str, ...]:
    """Return the notes of the plan about what goes back, and what does not, after its simulation."""
    order, (means, obstacle) = get_undo_order(context), choose_means(context)
    snapshot, now = find_snapshot(context), context.clock.now()
    if means is UndoMeans.SNAPSHOT and snapshot is not None:
        return describe_snapshot_plan(order.run_id, snapshot, now)
    if order.way is UndoWay.SNAPSHOT:
        message = f"not put back to its snapshot: {obstacle}"
        context.add_finding(Finding.warn(UNDO_CHECK, message, "Undo it by packages (--by packages)."))
    how = f"by the {means}" if means is not None else "by no means"
    commands, caution = order.commands.get(context.name, ()), context.manager.way_back.caution
    notes = describe_plan(order.run_id, how, caution, UndoChoice(chosen, skipped), commands)
    has_other = order.way is UndoWay.PACKAGES and snapshot is not None and snapshot.row.expires_at > now
    return (*notes, describe_other_way(order.run_id, snapshot, now)) if snapshot and has_other else notes
