"""patch_fleet: patch machines inside a window. resume_fleet: go on with a run that was left."""

from dataclasses import replace

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.admission import RefusedRun, admit_run
from flows.engine.suspension import find_suspension
from flows.flow_execution import (
    build_cancelled_state,
    cast_to_report,
    continue_earlier_run,
    execute_in_flow,
    find_earlier_run,
    recover_in_flow,
    resume_in_flow,
    to_flow_result,
    wait_for_earlier_process,
)
from flows.ports.caller import Caller, current_caller
from flows.prefect_runtime.flow_run_origin import read_flow_run_origin
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.finalizer import finalize_cancelled_flow_run, finalize_crashed_flow_run
from flows.recovery.reconciliation import recover_if_abandoned
from flows.request.patch_request import PatchRequest
from tasks.model import RunInfo, RunReport
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.rules.runs.approval import UNKNOWN_STARTER
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
    caller = log_to_flow_run(current_caller())
    earlier_run = None if request.dry_run else find_earlier_run(request, caller)
    if earlier_run is not None:
        return continue_earlier_run(earlier_run, caller)
    origin = read_flow_run_origin()
    admission = admit_run(request, caller, origin)
    if isinstance(admission, RefusedRun):
        return build_cancelled_state(admission)
    # Prefect does not know people: whoever pressed the button, it was not the user whom the worker runs as.
    somebody = f"{UNKNOWN_STARTER} ({origin.deployment})" if origin.deployment else ""
    caller = replace(caller, run_id=admission.run_id, name=admission.started_by or caller.name or somebody)
    return to_flow_result(execute_in_flow(admission, caller), caller)


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
        return to_flow_result(resume_in_flow(run.id, caller), caller)
    flow_run_id = str(flow_run.get_id() or "")
    report = recover_if_abandoned(run_id, caller, recover_in_flow, flow_run_id=flow_run_id)
    if isinstance(report, str):
        return _build_skipped_state(report)
    return to_flow_result(report, caller)


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


def _build_skipped_state(why: str) -> RunReport:
    return cast_to_report(Completed(message=f"nothing to take up: {why}"))
