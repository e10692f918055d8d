"""What of an earlier run goes back on one machine, and by which means.

To go back is an installation like any other: of older versions. So the pre-check, the detached job, the reboot and the
validation are those of any run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tasks.domain.model import Update, UpdateResult
from tasks.domain.protocols.package_manager import InstalledKernels
from tasks.domain.states import UndoWay, UpdateState
from tasks.domain.undo import InstalledChange, UndoMeans, UndoOrder
from tasks.rules.undo import UndoChoice, choose_all_changes, choose_changes, describe_plan, describe_snapshot_plan
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.snapshot_choice import explain_no_snapshot, find_snapshot


def _explain_no_packages(context: MachineContext) -> str:
    if get_undo_order(context).way is UndoWay.SNAPSHOT:
        return "only the snapshot is asked for"
    return context.manager.way_back.obstacle


_OBSTACLES: Final[Mapping[UndoMeans, Callable[[MachineContext], str]]] = {
    UndoMeans.SNAPSHOT: explain_no_snapshot,
    UndoMeans.PACKAGE_MANAGER: _explain_no_packages,
}
"""By means, in their order: why a machine can't go back so. The first without an obstacle is taken."""


def get_undo_order(context: MachineContext) -> UndoOrder:
    """Return what an undo takes back."""
    order = context.options.undo_order
    if order is None:
        raise ValueError(f"run {context.run.id} is no undo")
    return order


def choose_means(context: MachineContext) -> tuple[UndoMeans | None, str]:
    """Return how a machine goes back, or None and why it can't in any way."""
    obstacles: list[str] = []
    for means, explain in _OBSTACLES.items():
        if not (obstacle := explain(context)):
            return means, ""
        obstacles.append(f"{means}: {obstacle}")
    return None, "; ".join(obstacles)


def choose_ways_back(context: MachineContext) -> UndoChoice:
    """Return what goes back on a machine, and why all else stays. What is only pending is left out."""
    order, means = get_undo_order(context), choose_means(context)
    changes = order.changes.get(context.name, ())
    now: Mapping[str, str] = {}
    kernels = InstalledKernels()
    if means[0] is not None and changes:
        deadline = context.build_package_deadline()
        # "available" is the version that is asked for where several are installed: of kernels
        asked = [replace(change.update, available=change.after) for change in changes]
        now = context.manager.read_installed_versions(context.transport, asked, deadline=deadline)
        if not context.manager.way_back.removes:  # else there are no packages of kernels
            kernels = context.manager.read_kernels(context.transport, deadline=deadline)
    alone = f"this run takes run {order.run_id} back, and does nothing else"
    snapshot = find_snapshot(context)
    if means[0] is UndoMeans.SNAPSHOT and snapshot is not None:
        choice = choose_all_changes(changes, now, snapshot.row.snapshot)
        pending = (UpdateResult(u, UpdateState.NOT_SELECTED, alone) for u in context.packages.updates)
        return replace(choice, skipped=(*choice.skipped, *_leave_out(pending, changes)))
    choice = choose_changes(
        changes,
        now,
        kernels,
        context.packages.held,
        context.options.selection,
        order.run_id,
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
    order, means = get_undo_order(context), choose_means(context)[0]
    snapshot = find_snapshot(context)
    if means is UndoMeans.SNAPSHOT and snapshot is not None:
        return describe_snapshot_plan(order.run_id, snapshot, context.clock.now())
    how = f"by the {means}" if means is not None else "by no means"
    commands, caution = order.commands.get(context.name, ()), context.manager.way_back.caution
    return describe_plan(order.run_id, how, caution, UndoChoice(chosen, skipped), commands)
