"""The flow refresh-schedules: writes later window dates into Prefect, and reports other differences."""

from pathlib import Path

from deployments.server.client import open_server_client
from deployments.sync.model import Change
from deployments.sync.plan import CLIENT_RETRIES, build_plan
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from tasks.domain.errors import PatchError


@flow(name="refresh-schedules", persist_result=False)
def refresh_schedules(
    configurations: Path, inventory: Path | None = None, fleet: str = "default", pool: str = "fleetpatch"
) -> list[str]:
    """Write later dates of windows into Prefect, and report what was changed by hand.

    Prefect gets a list of dates where neither a rule nor a time zone describes the windows (a change of the clocks, an
    offset beyond the month). The list ends; this flow extends it. It changes nothing else: where other Prefect objects
    differ from the configurations, the run fails and names them. `fleetpatch deploy` corrects them.

    ``configurations``: file or folder, on the machine that runs the flow.
    ``fleet``: names the set of configurations.

    Returns:
        The deployments that have later dates now.

    Raises:
        PatchError: something else differs.
    """
    log_message = log_to_flow_run(current_caller()).listener.on_message
    written: list[str] = []

    def report_change(change: Change) -> None:
        written.append(change.name)
        log_message(f"{change.name}: later dates")

    with open_server_client(CLIENT_RETRIES) as client:
        plan = build_plan(client, configurations, inventory, fleet=fleet, pool=pool, refresh_flow=refresh_schedules)
        other_changes = plan.extend_dates(client, report_change)
    if other_changes:
        names = ", ".join(f"{change.name} ({change.action})" for change in other_changes[:10])
        raise PatchError(
            f"{len(other_changes)} Prefect objects differ from the configurations: {names}",
            hint="`fleetpatch deploy --check` shows the differences; `fleetpatch deploy` corrects them.",
        )
    return written
