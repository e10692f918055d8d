"""The flow assess_fleet: read machines and record their pending updates. It changes nothing."""

import functools
from dataclasses import replace

from prefect.runtime import flow_run

from flows.engine.run_info import build_run_id
from flows.execution import execute_run
from flows.flow_execution import name_flow_run
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.prefect_runtime.runner import build_prefect_runner
from flows.prefect_runtime.signals import run_with_signals
from flows.request.read_requests import AssessRequest
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import OperationState
from tasks.reports.formatting import format_count


@flow(name="assess-fleet", persist_result=False)
def assess_fleet(request: AssessRequest) -> RunReport:
    """Read the facts and the pending updates of machines, those of other sites by runs at their sites.

    Args:
        request: which machines, and whether they refresh their package lists first.

    Returns:
        The complete report.

    Raises:
        FleetPatchFailed: a machine could not be assessed; ``report`` of the error is the complete report.
        InventoryError: the inventory or the scope is not usable.
        RequestError: it is a part of an assessment that does not want it.
    """
    caller, flow_run_id = name_starter(log_to_flow_run(current_caller())), str(flow_run.get_id() or "")
    caller = replace(caller, run_id=request.shard or caller.run_id or build_run_id(SystemClock().now()))
    name_flow_run(request, caller.run_id or "")
    execute = functools.partial(execute_run, request, caller, build_prefect_runner, flow_run_id=flow_run_id)
    report = run_with_signals(execute, caller.stop_token)
    # a machine that was not begun, here or at its site, is as little known as one that does not answer
    read = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
    unread = len(report.outcomes) - sum(map(report.count_machines, read))
    if unread:
        raise FleetPatchFailed(
            f"{unread} of {format_count(len(report.outcomes), 'machine')} could not be assessed", report=report
        )
    return report
