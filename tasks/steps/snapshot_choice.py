"""Whether the snapshot of before a run can take that run back on one machine."""

from datetime import datetime

from tasks.domain.errors import FleetpatchError
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import RebootPolicy, UndoWay
from tasks.domain.undo import UndoSnapshot
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.snapshots import explain_unusable
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import PatchOptions
from tasks.steps.machine.provider_orders import check_identity, read_provided_machine, require_provider


def find_snapshot(context: MachineContext) -> UndoSnapshot | None:
    """Return the snapshot that the run which is taken back has of the machine; None: it has none."""
    order = context.options.undo_order
    return order.snapshots.get(context.name) if order is not None else None


def explain_no_snapshot(context: MachineContext) -> str:
    """Return why the machine is not put back to the snapshot, or "". The provider is asked for it."""
    order, snapshot = context.options.undo_order, find_snapshot(context)
    if order is None or order.way is not UndoWay.SNAPSHOT:
        return "it is not asked for"
    if snapshot is None:
        return "the run has none of this machine, or it is deleted"
    if reason := _explain_forbidden(context.options) or _explain_expired(snapshot.row, context.clock.now()):
        return reason
    if context.state.machine.provider != snapshot.row.provider:
        return f"{snapshot.row.provider} has it, and the machine has another provider now"
    try:
        machine = read_provided_machine(context, require_provider(context, ProviderAct.REVERT))
        identity = check_identity(context, provided=machine)
    except FleetpatchError as error:
        return error.message
    return describe_blocking_findings(identity) or explain_unusable(machine, snapshot.row.snapshot)


def _explain_forbidden(options: PatchOptions) -> str:
    """Return what the request forbids, and a snapshot can't keep, or ""."""
    if options.reboot is RebootPolicy.NEVER:
        return "it restarts the machine, and `reboot` is Never"
    if masks := options.selection.exclude:
        return f"it puts everything back, also what `exclude` keeps: {', '.join(masks)}"
    return ""


def _explain_expired(row: SnapshotRow, now: datetime) -> str:
    if now < row.expires_at:
        return ""
    return f"it has expired at {row.expires_at:%Y-%m-%d %H:%M} UTC, and may be deleted at any moment"
