"""The flow plan_fleet: show what a run would do. It changes nothing."""

from flows.flow_execution import execute_in_flow
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.request.read_requests import PlanRequest
from tasks.domain.model import RunReport


@flow(name="plan-fleet", persist_result=False)
def plan_fleet(request: PlanRequest) -> RunReport:
    """Assess machines and show what a run would install on them, in which waves, and how long that takes.

    It is a dry run of patch-fleet with a short form: nothing changes on a machine.

    Args:
        request: which machines, how long the window is, and which updates.

    Returns:
        The complete report, with the plan of each machine.

    Raises:
        FleetPatchFailed: a machine could not be assessed; ``report`` of the error is the complete report.
        InventoryError: the inventory or the scope is not usable.
        RequestError: the zone is unknown.
    """
    return execute_in_flow(request.to_patch_request(), name_starter(log_to_flow_run(current_caller())))
