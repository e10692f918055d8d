"""The flows patch_fleet and resume_fleet: patch machines inside a window, and resume a run whose process ended."""

from prefect.runtime import flow_run
from prefect.states import Completed

from flows.engine.interruption import find_suspension
from flows.flow_execution import cast_to_report, execute_in_flow, rename_in_background, wait_for_earlier_process
from flows.ports.caller import Caller, current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.cancellation import record_stop_request
from flows.recovery.flow_run_hooks import resume_after_cancellation, resume_after_crash
from flows.recovery.flow_runs import close_flow_runs_of_ended_run
from flows.recovery.reconciliation import recover_if_abandoned
from flows.recovery.unfinished_runs import wait_for_lease_expiry
from flows.request.patch_request import PatchRequest
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.sanitizing import sanitize_to_one_line


@flow(
    name="patch-fleet",
    persist_result=False,
    on_cancellation=[resume_after_cancellation],
    on_crashed=[resume_after_crash],
)
def patch_fleet(request: PatchRequest) -> RunReport:
    """Assess machines and patch them in waves inside a maintenance window.

    Every machine in scope gets exactly one outcome. Each machine of a wave is pre-checked, patched, rebooted if needed
    and allowed, and validated. With dry_run nothing changes, and the result is the plan.

    If a schedule started the run, the window opens at the scheduled time plus the window's lead, never later. A run
    that starts late does what still fits, or ends as cancelled. A second run for the same window, and a run whose
    window touches a freeze, end as cancelled.

    If Prefect starts the flow run again after its process died, it resumes the run that it had begun. If that process
    lives, this one ends and changes nothing.

    Args:
        request: what to do, on which machines, and when.

    Returns:
        The complete report. A cancelled state with the reason if the run may not begin in its window.

    Raises:
        FleetPatchFailed: a machine failed; ``report`` of the error is the complete report.
        InventoryError: the inventory or the scope is not usable.
        RequestError: the flow run was started again and its run is over, or the window is not valid.
    """
    return execute_in_flow(request, name_starter(log_to_flow_run(current_caller())))


@flow(
    name="resume-fleet",
    persist_result=False,
    on_cancellation=[resume_after_cancellation],
    on_crashed=[resume_after_crash],
)
def resume_fleet(run_id: str, finalize: bool = False, if_abandoned: bool = False) -> RunReport:
    """Resume a run whose process ended, from its recorded state and within its own window.

    The machines are read first: the flow waits for jobs that still run, reads finished jobs and compares boot ids. Only
    then it begins something new.

    Args:
        run_id: the run's id, or a unique prefix of it.
        finalize: begin nothing new, wait for jobs that run, record each machine's true state.
        if_abandoned: check the run first, as reconcile-fleet needs it. A run that is over, or that a process executes,
            is not changed. A run whose window is over, or that was asked to stop, is only finalized.

    Returns:
        The complete report. A completed state with the reason if there was nothing to resume.

    Raises:
        FleetPatchFailed: a machine failed; ``report`` of the error is the complete report.
        LeaseHeld: a live process executes the run. The lease of a dead one is waited for: it is over in a minute.
        RequestError: the run is over, or it only assessed machines.
    """
    caller = name_starter(log_to_flow_run(current_caller()))
    # A command that calls this flow has stopped the token, and recorded the request if a person made one.
    is_asked_to_stop = finalize and not caller.stop_token.is_stopping
    if is_asked_to_stop:
        caller.stop_token.request_stop("the run is only finalized")
    own_flow_run_id = str(flow_run.get_id() or "")
    with open_records(caller.records_url) as records:
        history = History(records)
        run = history.find_run(run_id)
        rename_in_background(f"resume {sanitize_to_one_line(run.id, 100)}", run.id)
        try:
            _wait_for_dead_process(records, history, run, caller)
        except LeaseHeld as held:
            if not if_abandoned:
                raise
            return _build_idle_end(held.message)
        if is_asked_to_stop:  # only now: a live process goes on
            record_stop_request(run.id, caller, caller.stop_token.reason)
        run = history.find_run(run.id)
    if run.state not in UNFINISHED_RUN_STATES and (flow_run.run_count or 0) > 1:
        return execute_in_flow(run, caller)
    if not if_abandoned:
        return execute_in_flow(run.id, caller)
    report = recover_if_abandoned(run.id, caller, execute_in_flow, flow_run_id=own_flow_run_id)
    if isinstance(report, str):
        close_flow_runs_of_ended_run(run.id, own_flow_run_id, caller)
        return _build_idle_end(report)
    return report


def _wait_for_dead_process(records: SqlRecords, history: History, run: RunInfo, caller: Caller) -> None:
    """Wait until the lease of a dead process is over: a minute at most.

    A process of this flow run that was suspended may live, and first completes what it began.

    Raises:
        LeaseHeld: a live process executes the run.
    """
    if run.state not in UNFINISHED_RUN_STATES:
        return
    suspension = find_suspension(history.read_journal(run.id))
    if suspension is not None and suspension.flow_run_id == str(flow_run.get_id()):
        wait_for_earlier_process(records, history, run, caller)
    else:
        wait_for_lease_expiry(records.leases, run.id, print_message=caller.listener.on_message)


def _build_idle_end(reason: str) -> RunReport:
    return cast_to_report(Completed(message=f"nothing to resume: {reason}"))
