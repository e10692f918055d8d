"""patch_fleet: patch machines inside a window."""

from dataclasses import replace

from prefect import flow
from prefect.runtime import flow_run

from flows.campaign import Campaign
from flows.context import caller
from flows.request import PatchRequest
from flows.runlog import RunLog
from flows.spread import PrefectRunner
from flows.wiring import real_ports, report_directory, whoami
from tasks.errors import FleetPatchFailed
from tasks.model import RunReport
from tasks.states import OperationState


@flow(name="patch-fleet", persist_result=False)
def patch_fleet(request: PatchRequest) -> RunReport:
    """Assess machines, and patch them in waves inside a maintenance window.

    Every machine in scope gets exactly one outcome, whatever happens to it. Machines are worked on in waves; each is
    pre-checked, patched, rebooted where needed and allowed, and validated. With dry_run nothing is changed, and the
    result is the plan.

    Args:
        request: what is to be done, to which machines, and when.

    Returns:
        The whole report.

    Raises:
        FleetPatchFailed: some machine failed; its ``report`` is the whole report.
        InventoryError: the inventory or the scope can't be used.
    """
    who = caller()
    ports = real_ports(request, who)
    ports = replace(ports, watch=RunLog(ports.watch))
    runner = PrefectRunner(report_directory(request.report_directory), request.report_formats, ports.logs)
    flow_run_id = str(flow_run.get_id() or "")
    campaign = Campaign(request, ports, runner, run_id=who.run_id, flow_run_id=flow_run_id, started_by=whoami(who))
    report = campaign.carry_out()
    failed = [outcome for outcome in report.outcomes if outcome.state is OperationState.FAILED]
    if failed:
        names = ", ".join(outcome.machine for outcome in failed[:10])
        raise FleetPatchFailed(
            f"{len(failed)} of {len(report.outcomes)} machines failed: {names}",
            report=report,
            hint=f"fleetpatch show {report.run.id}",
        )
    return report
