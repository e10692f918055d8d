"""refresh_schedules: keep Prefect told of dates that its schedules can't express, and say what was changed by hand."""

from pathlib import Path

from prefect import flow

from deployments.server.client import open_server_client
from deployments.sync.model import Change
from deployments.sync.plan import CLIENT_RETRIES, build_plan
from flows.ports.caller import current_caller
from flows.prefect_runtime.run_log import log_to_flow_run
from tasks.errors import PatchError


@flow(name="refresh-schedules", persist_result=False)
def refresh_schedules(
    configurations: Path, inventory: Path | None = None, fleet: str = "default", pool: str = "fleetpatch"
) -> list[str]:
    """Write later dates where Prefect is told of windows date by date, and look for what was changed by hand.

    Where neither a rule nor a time zone says when windows open (a change of the clocks, an offset beyond the month),
    Prefect is told the dates. They end; this flow goes on with them. What else differs from the configurations is not
    touched: this run fails and names it, and `fleetpatch deploy` mends it.

    Args:
        configurations: file or folder, on the machine that runs the flow.
        inventory: of the machines.
        fleet: names the set of configurations.
        pool: the work pool.

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
            f"{len(other_changes)} things in Prefect are not as the configurations say: {names}",
            hint="See `fleetpatch deploy --check`, and mend them with `fleetpatch deploy`.",
        )
    return written
