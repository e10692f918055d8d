"""Whether the snapshot of before a run can take that run back on one machine."""

from tasks.domain.errors import FleetpatchError
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import UndoWay
from tasks.domain.undo import UndoSnapshot
from tasks.rules.runs.snapshots import explain_unusable
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.provider_orders import read_provided_machine, require_provider


def find_snapshot(context: MachineContext) -> UndoSnapshot | None:
    """Return the snapshot that the run which is taken back has of the machine; None: it has none."""
    order = context.options.undo_order
    return order.snapshots.get(context.name) if order is not None else None


def explain_no_snapshot(context: MachineContext) -> str:
    """Return why the machine is not put back to the snapshot, or "". The provider is asked for it."""
    order, snapshot = context.options.undo_order, find_snapshot(context)
    if order is None or order.way is UndoWay.PACKAGES:
        return "it is not asked for"
    if snapshot is None:
        return "the run has none of this machine, or it is deleted"
    if context.state.machine.provider != snapshot.row.provider:
        return f"{snapshot.row.provider} has it, and the machine has another provider now"
    if snapshot.later_runs and order.way is not UndoWay.SNAPSHOT:
        later = ", ".join(snapshot.later_runs[:3])
        return f"run {later} has changed the machine since: `--by snapshot` goes back to before that, too"
    try:
        machine = read_provided_machine(context, require_provider(context, ProviderAct.REVERT))
    except FleetpatchError as error:
        return error.message
    return explain_unusable(machine, snapshot.row.snapshot)
