"""Begin, resume or recover a run inside a Prefect flow run, and return its result as the flow's state."""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import cast

from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from flows.admission import AdmittedRun, RefusedRun, retry_while_records_unavailable
from flows.engine.lease_renewer import LEASE_SECONDS
from flows.engine.suspension import find_suspension, record_suspend_request
from flows.execution import execute_request, resume_execution
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_states import build_final_state, correct_flow_run_state, was_flow_run_cancelled
from flows.prefect_runtime.runner import build_prefect_runner
from flows.prefect_runtime.signals import run_with_signals
from flows.recovery.abandoned_runs import AbandonedRun
from flows.recovery.cancellation import record_stop_request
from flows.recovery.reconciliation import recover_run
from flows.recovery.resumption import LEASE_GRACE_SECONDS, wait_for_lease_expiry
from flows.request.patch_request import PatchRequest
from tasks.errors import FleetPatchFailed
from tasks.model import RunInfo, RunReport
from tasks.protocols.clock import SystemClock
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.hooks import describe_blocking_failure, is_blocking_failure
from tasks.states import UNFINISHED_RUN_STATES, OperationState


def execute_in_flow(admitted: AdmittedRun, caller: Caller) -> RunReport:
    """Carry out a run that may begin, as this flow run."""
    flow_run_id = str(flow_run.get_id() or "")
    return _run_with_signals(
        functools.partial(execute_request, admitted.request, caller, build_prefect_runner),
        admitted.run_id,
        caller,
        flow_run_id,
    )


def recover_in_flow(abandoned_run: AbandonedRun, caller: Caller) -> RunReport:
    """Take up a run that was left, as part of this flow run; see ``recover_run``."""
    caller.listener.on_message(f"run {abandoned_run.run.id} is {abandoned_run.planned_action}")
    flow_run_id = str(flow_run.get_id() or "")
    return _run_with_signals(
        functools.partial(recover_run, abandoned_run, caller, build_prefect_runner),
        abandoned_run.run.id,
        caller,
        flow_run_id,
    )


def resume_in_flow(run_id: str, caller: Caller) -> RunReport:
    """Take up a run that the caller has named, as part of this flow run; see ``resume_execution``."""
    flow_run_id = str(flow_run.get_id() or "")
    return _run_with_signals(
        functools.partial(resume_execution, run_id, caller, build_prefect_runner), run_id, caller, flow_run_id
    )


def _run_with_signals(body: Callable[..., RunReport], run_id: str, caller: Caller, flow_run_id: str) -> RunReport:
    return run_with_signals(
        functools.partial(body, flow_run_id=flow_run_id),
        caller.stop_token,
        functools.partial(record_stop_request, run_id, caller),
        functools.partial(record_suspend_request, run_id, caller, flow_run_id),
    )


def build_cancelled_state(refused: RefusedRun) -> RunReport:
    """Who called the flow gets CancelledRun raised."""
    return cast_to_report(Cancelled(message=refused.refusal.reason))


def find_earlier_run(request: PatchRequest, caller: Caller) -> RunInfo | None:
    """Return the run that this flow run had begun before it was started again; None at its first start.

    Prefect's own count of starts does not tell: it is not raised when a flow run that was suspended is resumed.

    Raises:
        LeaseHeld: somebody carries it.
        RecordsError: the records can't be asked.
    """
    flow_run_id, clock = str(flow_run.get_id() or ""), SystemClock()
    until = clock.now() + timedelta(minutes=request.window.minutes)

    def read_earlier_run() -> RunInfo | None:
        with open_records(caller.records_url) as records:
            history = History(records)
            run = history.find_run_by_flow_run(flow_run_id)
            if run is not None and run.state in UNFINISHED_RUN_STATES:
                wait_for_earlier_process(records, history, run, caller)
                run = history.find_run(run.id)
            return run

    return retry_while_records_unavailable(read_earlier_run, caller, clock, until)


def wait_for_earlier_process(records: SqlRecords, history: History, run: RunInfo, caller: Caller) -> None:
    """Wait until the earlier process is gone. One that was suspended ends what it has begun, however long that takes.

    Raises:
        LeaseHeld: it lives, and was not suspended.
    """
    suspended = find_suspension(history.read_journal(run.id)) is not None
    left = (run.window.end - SystemClock().now()).total_seconds() if run.window is not None else 0.0
    seconds = max(LEASE_SECONDS + LEASE_GRACE_SECONDS, left)
    wait_for_lease_expiry(
        records.leases,
        run.id,
        print_message=caller.listener.on_message,
        wait_for_live_holder=suspended,
        seconds=seconds,
    )


def continue_earlier_run(run: RunInfo, caller: Caller) -> RunReport:
    """Go on with the run that this flow run had begun; one that is over stays as it ended.

    Raises:
        LeaseHeld: somebody carries it.
    """
    if run.state not in UNFINISHED_RUN_STATES:
        message = f"run {run.id} of this flow run is over: {run.state}"
        more = f" ({run.message})" if run.message else ""
        state_message = f"{message}{more}. Nothing was begun; start a new run for what is left."
        return cast_to_report(
            build_final_state(run, state_message, was_cancelled=was_flow_run_cancelled(str(flow_run.get_id() or "")))
        )
    caller.listener.on_message(f"started again: going on with run {run.id}")
    return to_flow_result(resume_in_flow(run.id, caller), caller)


def to_flow_result(report: RunReport, caller: Caller) -> RunReport:
    """Return the report of a run that has ended well, or that is suspended; else a failed state that has it.

    Who called the flow gets FleetPatchFailed raised. Prefect shows a state with a message, and logs no traceback.
    """
    if report.run.state is OperationState.IN_PROGRESS:
        return report
    if caller.stop_token.is_suspended:  # and nothing was left to be gone on with
        correct_flow_run_state(str(flow_run.get_id() or ""), report.run)
    try:
        return require_success(report)
    except FleetPatchFailed as failed:
        return cast_to_report(Failed(message=f"{failed.message}; {failed.hint}", data=failed))


def cast_to_report(state: object) -> RunReport:
    """Prefect takes a state that a flow returns for its own."""
    return cast("RunReport", state)


def require_success(report: RunReport) -> RunReport:
    """Return the report of a run that has not failed.

    Raises:
        FleetPatchFailed: some machine failed, or a hook around them that must succeed.
    """
    failed = [outcome for outcome in report.outcomes if outcome.state is OperationState.FAILED]
    if failed:
        names = ", ".join(outcome.machine for outcome in failed[:10])
        raise FleetPatchFailed(
            f"{len(failed)} of {len(report.outcomes)} machines failed: {names}",
            report=report,
            hint=f"fleetpatch show {report.run.id}",
        )
    if report.run.state is OperationState.FAILED:
        why = "; ".join(describe_blocking_failure(result) for result in report.hooks if is_blocking_failure(result))
        raise FleetPatchFailed(why or "the run failed", report=report, hint=f"fleetpatch show {report.run.id}")
    return report
