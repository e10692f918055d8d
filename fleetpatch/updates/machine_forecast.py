"""Says of the updates that a machine lacks, and that nothing is known to block, what comes next of them."""

from collections.abc import Sequence
from dataclasses import replace

from fleetpatch.machines.pending_updates import ExplainedUpdate
from fleetpatch.machines.snapshot import FleetMachine, FleetSnapshot
from fleetpatch.updates.automatic_state import AutomaticState
from fleetpatch.updates.selection_forecast import Forecaster
from tasks.domain.model import PackageState
from tasks.records.queries.explanations import AVAILABLE_REASON
from tasks.records.queries.fleet.updates import PendingUpdateRow


def explain_waiting(
    fleet: FleetSnapshot,
    automatic: AutomaticState,
    machine: FleetMachine | None,
    pending: Sequence[ExplainedUpdate],
    packages: PackageState | None,
) -> tuple[ExplainedUpdate, ...]:
    """Return what a machine lacks, with the reason why an update waits where the records only say that it is there.

    Args:
        fleet: the fleet.
        automatic: what automatic patching does.
        machine: the machine; None if it is not in the inventory any more.
        pending: what it lacks.
        packages: the answer that says so; None: it has never given one.
    """
    if machine is None or packages is None:
        return tuple(pending)
    forecaster = Forecaster(fleet, automatic, {}, {machine.machine.name: packages})
    return tuple(_explain(forecaster, machine, pending_update) for pending_update in pending)


def _explain(forecaster: Forecaster, machine: FleetMachine, pending: ExplainedUpdate) -> ExplainedUpdate:
    update = pending.update
    # What a request may allow is decided by the requests of its windows; a hold and a block are not.
    is_decided_by_request = pending.reason == update.remark and not update.held and not update.blocked
    if pending.reason != AVAILABLE_REASON and not is_decided_by_request:
        return pending
    row = PendingUpdateRow(
        assessment=0,
        machine=machine.machine.name,
        name=update.name,
        arch=update.arch,
        classification=update.classification.value,
        severity=update.severity,
        installed=update.installed,
        available=update.available,
        kb=update.kb,
        held=update.held,
        blocked=update.blocked,
        published=update.published,
        title=update.title,
        since=pending.since,
    )
    update_forecast = forecaster.forecast(row, machine)
    return replace(
        pending,
        reason=f"{update_forecast.why}, {update_forecast.window}" if update_forecast.window else update_forecast.why,
    )
