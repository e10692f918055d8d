"""patch_fleet: patch machines inside a window. resume_fleet: go on with a run that was left."""

from prefect import flow
from prefect.runtime import flow_run

from flows.carrying import carry_out, take_up
from flows.context import caller
from flows.request import PatchRequest
from flows.runlog import logged
from flows.spread import prefect_runner
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
    report = carry_out(request, logged(caller()), prefect_runner, flow_run_id=str(flow_run.get_id() or ""))
    return raised_if_failed(report)


@flow(name="resume-fleet", persist_result=False)
def resume_fleet(run_id: str, settle: bool = False) -> RunReport:
    """Go on with a run that nobody carries any more, from where it was left and within its own window.

    Machines are asked first: jobs that still run are attached to, finished ones are read, boot ids are compared; only
    then is anything begun.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        settle: begin nothing new; see what runs to its end, and record each machine's true state.

    Returns:
        The whole report.

    Raises:
        FleetPatchFailed: some machine failed; its ``report`` is the whole report.
        LeaseHeld: somebody carries the run.
        RequestError: the run is over, or only looked at machines.
    """
    who = logged(caller())
    if settle:
        who.control.stop("the run is only settled")
    return raised_if_failed(take_up(run_id, who, prefect_runner, flow_run_id=str(flow_run.get_id() or "")))


def raised_if_failed(report: RunReport) -> RunReport:
    """Return a report without failed machines.

    Raises:
        FleetPatchFailed: some failed.
    """
    failed = [outcome for outcome in report.outcomes if outcome.state is OperationState.FAILED]
    if failed:
        names = ", ".join(outcome.machine for outcome in failed[:10])
        raise FleetPatchFailed(
            f"{len(failed)} of {len(report.outcomes)} machines failed: {names}",
            report=report,
            hint=f"fleetpatch show {report.run.id}",
        )
    return report
