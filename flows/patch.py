"""patch_fleet: patch machines inside a window. resume_fleet: go on with a run that was left."""

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.engine.suspension import find_suspension
from flows.flow_execution import (
    begin_in_flow,
    cast_to_report,
    continue_earlier_run,
    execute_in_flow,
    wait_for_earlier_process,
)
from flows.ports.caller import Caller, current_caller
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.finalizer import finalize_cancelled_flow_run, finalize_crashed_flow_run
from flows.recovery.reconciliation import recover_if_abandoned
from flows.request.patch_request import PatchRequest
from tasks.model import RunInfo, RunReport
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.states import UNFINISHED_RUN_STATES


@flow(
    name="patch-fleet",
    persist_result=False,
    on_cancellation=[finalize_cancelled_flow_run],
    on_crashed=[finalize_crashed_flow_run],
)
def patch_fleet(request: PatchRequest) -> RunReport:
    """Assess machines, and patch them in waves inside a maintenance window.

    Every machine in scope gets exactly one outcome, whatever happens to it. Machines are worked on in waves; each is
    pre-checked, patched, rebooted where needed and allowed, and validated. With dry_run nothing is changed, and the
    result is the plan.

    The window of a run that a schedule started opens at its scheduled time (and the window's lead), never later: a run
    that starts late does what still fits, or ends as cancelled. So does a second run for the same window, and one whose
    window touches a freeze.

    A flow run that is started again after its process died goes on with the run that it had begun.

    Args:
        request: what is to be done, to which machines, and when.

    Returns:
        The whole report; a cancelled state that says why when the run may not begin in its window.

    Raises:
        FleetPatchFailed: some machine failed; its ``report`` is the whole report.
        InventoryError: the inventory or the scope can't be used.
        LeaseHeld: the flow run was started again, and somebody carries its run.
        RequestError: the flow run was started again, and its run is over; or its window makes no sense.
    """
    return begin_in_flow(request, log_to_flow_run(current_caller()))


@flow(
    name="resume-fleet",
    persist_result=False,
    on_cancellation=[finalize_cancelled_flow_run],
    on_crashed=[finalize_crashed_flow_run],
)
def resume_fleet(run_id: str, settle: bool = False, if_abandoned: bool = False) -> RunReport:
    """Go on with a run that nobody carries any more, from where it was left and within its own window.

    Machines are asked first: jobs that still run are attached to, finished ones are read, boot ids are compared; only
    then is anything begun.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        settle: begin nothing new; see what runs to its end, and record each machine's true state.
        if_abandoned: look first, as reconcile-fleet wants it: a run that is over, or that somebody carries, is left
            alone; one whose window is over, or that was asked to stop, is only settled.

    Returns:
        The whole report; a completed state that says why when there was nothing to take up.

    Raises:
        FleetPatchFailed: some machine failed; its ``report`` is the whole report.
        LeaseHeld: somebody carries the run.
        RequestError: the run is over, or only looked at machines.
    """
    caller = log_to_flow_run(current_caller())
    if settle:
        caller.stop_token.request_stop("the run is only settled")
    run = _find_run_to_resume(run_id, caller)
    if run.state not in UNFINISHED_RUN_STATES and (flow_run.run_count or 0) > 1:
        return continue_earlier_run(run, caller)
    if not if_abandoned:
        return execute_in_flow(run.id, caller)
    report = recover_if_abandoned(run_id, caller, execute_in_flow, flow_run_id=str(flow_run.get_id() or ""))
    if isinstance(report, str):
        return cast_to_report(Completed(message=f"nothing to resume: {report}"))
    return report


def _find_run_to_resume(run_id: str, caller: Caller) -> RunInfo:
    """Return the run that resume_fleet was given. If that was suspended in this flow run, its process has ended."""
    with open_records(caller.records_url) as records:
        history = History(records)
        run = history.find_run(run_id)
        suspension = find_suspension(history.read_journal(run.id))
        if (
            run.state in UNFINISHED_RUN_STATES
            and suspension is not None
            and suspension.flow_run_id == str(flow_run.get_id())
        ):
            wait_for_earlier_process(records, history, run, caller)
        return history.find_run(run.id)
