"""The flow control-maintenance. A schedule starts it every 15 minutes: one look at what is held."""

from pathlib import Path

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.maintenance.groups import build_groups
from deployments.maintenance.run_starter import PrefectApplyStarter
from deployments.maintenance.tick import run_tick
from flows.composition import read_credential
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import LeaseHeld

CONTROL_INTERVAL_SECONDS = 15 * 60


@flow(name="control-maintenance", persist_result=False)
def control_maintenance(configurations: Path, inventory: Path | None = None) -> list[str]:
    """Look at what is pending on machines whose updates are held, and apply what is overdue.

    This is one look. A look that was missed, or that ran twice, changes nothing: everything that a decision needs is in
    the records and in the files. What is applied in a window is applied by the run of that window.

    Args:
        configurations: file or folder, on the machine that runs the flow.
        inventory: of configurations that name none.

    Returns:
        What people should know, in lines.

    Raises:
        InventoryError: the configurations are not usable: nothing is applied, and nothing is forgotten.
        PatchError: Prefect does not answer. The next look does the rest.
        RecordsError: the records are not usable.
    """
    caller, clock = log_to_flow_run(current_caller()), SystemClock()
    loaded = load_configurations(configurations, clock.now().date())
    groups = build_groups(loaded, load_inventories(loaded, inventory))
    try:
        return list(run_tick(groups, caller, PrefectApplyStarter(), clock, read_credential))
    except LeaseHeld as error:
        caller.listener.on_message(f"another look is at work, so there is nothing to do: {error.holder}")
        return []
