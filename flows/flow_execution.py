"""Begin, resume or recover a run inside a Prefect flow run, and return the flow's result."""

import functools
import time
from dataclasses import replace
from datetime import timedelta
from typing import Final, cast

from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from flows.admission import AdmittedRun, RefusedRun, admit_run, retry_while_records_unavailable
from flows.engine.lease_renewer import LEASE_SECONDS
from flows.engine.run_info import build_window
from flows.engine.suspension import find_suspension, record_suspend_request
from flows.execution import execute
from flows.ports.caller import Caller
from flows.prefect_runtime.flow_run_names import build_flow_run_name, rename_flow_run
from flows.prefect_runtime.flow_run_origin import read_flow_run_origin
from flows.prefect_runtime.flow_run_states import build_final_state, correct_flow_run_state, was_flow_run_cancelled
from flows.prefect_runtime.runner import BackgroundCall, build_prefect_runner
from flows.prefect_runtime.signals import run_with_signals
from flows.recovery.abandoned_runs import AbandonedRun
from flows.recovery.cancellation import record_stop_request
from flows.recovery.reconciliation import LEASE_GRACE_SECONDS, wait_for_lease_expiry
from flows.request import PatchRequest, RunRequest
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import FleetPatchFailed, LeaseHeld, RunBegun
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.formatting import format_count
from tasks.rules.runs.approval import UNKNOWN_STARTER
from tasks.rules.runs.hooks import describe_blocking_failure, is_blocking_failure

_RENAME_SECONDS: Final = 5.0


def begin_in_flow(request: PatchRequest, caller: Caller) -> RunReport:
    """Begin the requested run, or resume the run that this flow run has begun. Return the flow's result.

    A flow run may have two processes: it was started again while the first one was slow. One of them executes the run.

    Raises:
        Abort: another process of this flow run executes its run. Prefect ends this process without another state: the
            state of the flow run is the other one's.
        RequestError: the window is not valid.
    """
    try:
        try:
            return _begin_or_continue(request, caller)
        except RunBegun:  # another process began the run since this one looked for it
            return _begin_or_continue(request, caller)
    except LeaseHeld as held:
        message = f"{held.message}: this process ends and changes nothing"
        caller.listener.on_message(message)
        raise Abort(message) from held


def _begin_or_continue(request: PatchRequest, caller: Caller) -> RunReport:
    """Begin the requested run, or resume the run that this flow run has begun.

    Raises:
        LeaseHeld: another process of this flow run executes its run.
        RequestError: the window is not valid.
        RunBegun: another process of this flow run began the run meanwhile.
    """
    earlier_run = None if request.dry_run else _find_earlier_run(request, caller)
    if earlier_run is not None:
        return continue_earlier_run(earlier_run, caller)
    admission = admit_run(request, caller, read_flow_run_origin())
    if isinstance(admission, RefusedRun):
        refused = admission.report.run
        renaming = rename_in_background(build_flow_run_name(request, refused.id, refused.window))
        if renaming is not None:  # the process may end with this flow run
            renaming.wait_until_delivered(time.monotonic() + _RENAME_SECONDS)
        return cast_to_report(Cancelled(message=admission.refusal.reason))
    caller = replace(caller, run_id=admission.run_id, name=admission.started_by or caller.name)
    return execute_in_flow(admission, caller)


def execute_in_flow(run: AdmittedRun | AbandonedRun | str, caller: Caller) -> RunReport:
    """Execute a run in this flow run: begin an admitted one, recover an abandoned one, or resume one by its id.

    Returns:
        The flow's result: the report if the run ended well or is suspended, otherwise a failed state that holds the
        report.
        The caller of the flow gets FleetPatchFailed. Prefect shows a state with a message, and logs no traceback.
    """
    flow_run_id = str(flow_run.get_id() or "")
    request: PatchRequest | str
    if isinstance(run, AdmittedRun):
        request, run_id = run.request, run.run_id
        name_flow_run(request, run_id)
    else:
        request = run_id = run if isinstance(run, str) else run.run.id
    if isinstance(run, AbandonedRun):
        caller.listener.on_message(f"run {run_id} is {run.planned_action}")
        run.signal_stop(caller.stop_token)
    report = run_with_signals(
        functools.partial(execute, request, caller, build_prefect_runner, flow_run_id=flow_run_id),
        caller.stop_token,
        functools.partial(_record_stop, run_id, caller),
        functools.partial(record_suspend_request, run_id, caller, flow_run_id),
    )
    if report.run.state is OperationState.IN_PROGRESS:
        return report
    if caller.stop_token.is_suspended:  # the run is over, so nothing can be resumed
        correct_flow_run_state(flow_run_id, report.run)
    failure = _describe_failure(report)
    if not failure:
        return report
    failed = FleetPatchFailed(failure, report=report, hint=f"fleetpatch show {report.run.id}")
    return cast_to_report(Failed(message=f"{failed.message}; {failed.hint}", data=failed))


def _record_stop(run_id: str, caller: Caller, reason: str) -> None:
    """Record that a signal stopped the run. In a worker nobody knows who sent it: it was not the run's starter."""
    if caller.source:
        caller = replace(caller, name=UNKNOWN_STARTER)
        reason = f"{reason}: cancelled in Prefect, or its worker was stopped"
    record_stop_request(run_id, caller, reason)


def name_flow_run(request: RunRequest, run_id: str) -> None:
    """Rename this flow run for the run that begins in it, in the background. The name never delays or fails the run."""
    window = build_window(request, SystemClock().now())
    rename_in_background(build_flow_run_name(request, run_id, window))


def rename_in_background(name: str) -> BackgroundCall | None:
    """Give this flow run another name, in the background. Return None outside a flow run."""
    flow_run_id = str(flow_run.get_id() or "")
    if not flow_run_id:
        return None
    if (context := FlowRunContext.get()) is not None and context.flow_run is not None:
        context.flow_run.name = name  # the log of its process has this name at once
    return BackgroundCall("the name of the flow run", functools.partial(rename_flow_run, flow_run_id, name))


def _find_earlier_run(request: PatchRequest, caller: Caller) -> RunInfo | None:
    """Return the run that this flow run had begun before it was started again; None at its first start.

    Prefect's run count does not tell this: it does not increase when a suspended flow run is resumed.

    Raises:
        LeaseHeld: another process executes the run.
        RecordsError: the records can't be read.
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
    """Wait until the earlier process has ended. A suspended one first completes what it began, without a time limit.

    Raises:
        LeaseHeld: the process lives, and it was not suspended.
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
    """Resume the run that this flow run had begun. If the run is over, return its recorded result.

    Raises:
        LeaseHeld: another process executes the run.
    """
    if run.state not in UNFINISHED_RUN_STATES:
        message = f"run {run.id} of this flow run is over: {run.state}"
        more = f" ({run.message})" if run.message else ""
        state_message = f"{message}{more}. Nothing was begun; start a new run for what is left."
        return cast_to_report(
            build_final_state(run, state_message, was_cancelled=was_flow_run_cancelled(str(flow_run.get_id() or "")))
        )
    caller.listener.on_message(f"started again: continuing run {run.id}")
    return execute_in_flow(run.id, caller)


def cast_to_report(state: object) -> RunReport:
    """Return a state with the flow's return type. Prefect uses a state that a flow returns as the flow's own state."""
    return cast("RunReport", state)


def _describe_failure(report: RunReport) -> str:
    """Return which machines failed, or which hooks that must succeed; "" if the run has not failed."""
    failed = [outcome.machine for outcome in report.outcomes if outcome.state is OperationState.FAILED]
    if failed:
        return f"{len(failed)} of {format_count(len(report.outcomes), 'machine')} failed: {', '.join(failed[:10])}"
    if report.run.state is not OperationState.FAILED:
        return ""
    failures = [describe_blocking_failure(result) for result in report.hooks if is_blocking_failure(result)]
    return "; ".join(failures) or "the run failed"
