"""assess_fleet: look at machines and remember what is pending; change nothing."""

from dataclasses import replace

from prefect import flow
from prefect.runtime import flow_run

from flows.campaign import Campaign
from flows.context import caller
from flows.request import AssessRequest
from flows.runlog import RunLog
from flows.spread import PrefectRunner
from flows.wiring import real_ports, whoami
from tasks.errors import FleetPatchFailed
from tasks.model import RunReport
from tasks.states import OperationState


@flow(name="assess-fleet", persist_result=False)
def assess_fleet(request: AssessRequest) -> RunReport:
    """Ask machines what they are and what is pending on them.

    Args:
        request: which machines, and whether they read their repositories anew first.

    Returns:
        The whole report.

    Raises:
        FleetPatchFailed: some machine could not be assessed; its ``report`` is the whole report.
        InventoryError: the inventory or the scope can't be used.
    """
    who = caller()
    ports = real_ports(request, who)
    ports = replace(ports, watch=RunLog(ports.watch))
    runner = PrefectRunner(request.report_directory, request.report_formats, ports.logs)
    flow_run_id = str(flow_run.get_id() or "")
    campaign = Campaign(request, ports, runner, run_id=who.run_id, flow_run_id=flow_run_id, started_by=whoami(who))
    report = campaign.carry_out()
    failed = report.count(OperationState.FAILED)
    if failed:
        raise FleetPatchFailed(f"{failed} of {len(report.outcomes)} machines could not be assessed", report=report)
    return report
