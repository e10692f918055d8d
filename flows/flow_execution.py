"""Execute a run inside a Prefect flow run: begin, resume or recover it, and return the flow's result."""

import functools
import logging
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.admission import AdmittedRun, admit_run
from flows.engine.interruption import find_suspension
from flows.engine.retrying_records import retry_while_unavailable
from flows.engine.run_info import build_request_window, describe_machines, is_rollout_run
from flows.engine.run_lease import LEASE_SECONDS, build_component_lease
from flows.execution import execute_run
from flows.ports.caller import Caller
from flows.prefect_api.api_client import open_fail_fast_client, shows_state_of_this_process
from flows.prefect_api.tags import build_run_tag
from flows.prefect_runtime.delivery import BackgroundCall
from flows.prefect_runtime.end_states import build_final_state
from flows.prefect_runtime.flow_run_origin import read_flow_run_origin
from flows.prefect_runtime.flow_run_states import (
    correct_flow_run_state,
    wait_for_reported_end,
)
from flows.prefect_runtime.runner import build_prefect_runner
from flows.prefect_runtime.signals import is_suspension_requested, run_with_signals
from flows.recovery.cancellation import record_stop_request, record_suspend_request
from flows.recovery.unfinished_runs import LEASE_GRACE_SECONDS, AbandonedRun, wait_for_lease_expiry
from flows.request import AssessRequest, PatchRequest, RunRequest
from tasks.domain.errors import LeaseLost
from tasks.domain.model import RunInfo, RunReport, Window
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import ROLLOUT_PREFIX
from tasks.domain.run_errors import EndUnknown, FleetPatchFailed, LeaseHeld, RunBegun
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.reports.formatting import format_count, format_scope, load_zone_or_utc
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.approval import UNKNOWN_STARTER
from tasks.rules.runs.hooks import describe_blocking_failure, is_blocking_failure

logger = logging.getLogger(__name__)

_MAX_SUBJECT_LENGTH = 60  # characters of a scope; the id of the run must stay visible
_RENAME_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 5.0
"""In which a process that has recorded the end of its run tells it to Prefect."""


def build_flow_run_name(request: RunRequest, run_id: str, window: Window | None) -> str:
    """Return the name of a flow run that begins: "web-weekly 2026-11-24 22:00 r-20261124-…". Pure."""
    subject = (request.configuration or request.component) if isinstance(request, PatchRequest) else ""
    subject = subject or format_scope(describe_machines(request))
    if isinstance(request, PatchRequest) and is_rollout_run(request):
        subject = f"{request.updates.as_in_run.removeprefix(ROLLOUT_PREFIX).strip()} {subject}"
    subject = sanitize_to_one_line(subject, _MAX_SUBJECT_LENGTH)
    if isinstance(request, AssessRequest):
        return f"assess {subject} {run_id}"
    verb = "plan " if request.dry_run else "download " if request.download_only else ""
    if window is None:
        return f"{verb}{subject} {run_id}"
    start = window.start.astimezone(load_zone_or_utc(window.zone))
    return f"{verb}{subject} {start:%Y-%m-%d %H:%M} {run_id}"


def execute_in_flow(run: PatchRequest | RunInfo | AbandonedRun | str, caller: Caller) -> RunReport:
    """Execute a run in this flow run.

    A flow run may have two processes: it was started again while the first one was slow. One of them executes the run.

    ``run``: the request of a new run; or a run that this flow run has begun, a run to recover, or the id of a run to
    resume.

    Returns:
        The flow's result: the report if the run ended well or is suspended. Otherwise a state: failed, with the report;
        cancelled, if the run may not begin in its window, or another run upgrades its component; or the recorded end of
        a run that is over. The caller of the flow gets FleetPatchFailed. Prefect shows a state with a message, and logs
        no traceback.

    Raises:
        Abort: another process executes the run, or has ended it meanwhile. Or it may have, because the records don't
            answer, and Prefect doesn't show the state that this process has given the flow run, or doesn't answer
            either. Prefect ends this process without another state: the state of the flow run is the other one's.
        LeaseHeld: another process executes the run to resume.
        RequestError: the window is not valid.
    """
    flow_run_id = str(flow_run.get_id() or "")
    try:
        chosen = _find_or_admit(run, caller) if isinstance(run, PatchRequest) else run
        if isinstance(chosen, State):
            return cast_to_report(chosen)
        if isinstance(chosen, RunInfo):
            if chosen.state not in UNFINISHED_RUN_STATES:
                return cast_to_report(_build_earlier_end(chosen, flow_run_id, caller))
            caller.listener.on_message(f"started again: continuing run {chosen.id}")
        try:
            report = _execute_with_signals(chosen, caller, flow_run_id)
        except EndUnknown as unknown:
            if not shows_state_of_this_process():
                raise Abort(_tell_that_nothing_changes(unknown.message, caller)) from unknown
            message = f"{unknown.message}; {unknown.hint}"
            return cast_to_report(build_final_state(unknown.report.run, message, unknown))
        return _build_flow_result(report, flow_run_id)
    except RunBegun:  # another process of this flow run began the run since this one looked for it
        return execute_in_flow(run, caller)
    except LeaseHeld as held:
        if not isinstance(run, PatchRequest):
            raise
        message = _tell_that_nothing_changes(held.message, caller)
        if run.component and held.run_id == build_component_lease(run.component):
            return cast_to_report(Cancelled(message=message))  # the other process has a flow run of its own, or none
        raise Abort(message) from held


def _execute_with_signals(
    chosen: AdmittedRun | AbandonedRun | RunInfo | str, caller: Caller, flow_run_id: str
) -> RunReport:
    """Begin or resume a run.

    Raises:
        Abort: another process has taken the run, so this one has nothing to say about it.
    """
    request: PatchRequest | str
    if isinstance(chosen, AdmittedRun):
        request, run_id = chosen.request, chosen.run_id
        caller = replace(caller, run_id=run_id, name=chosen.started_by or caller.name)
        name_flow_run(request, run_id)
    elif isinstance(chosen, AbandonedRun):
        request = run_id = chosen.run.id
        caller.listener.on_message(f"run {run_id} is {chosen.planned_action}")
        chosen.signal_stop(caller.stop_token)
    else:
        request = run_id = chosen if isinstance(chosen, str) else chosen.id
    try:
        return run_with_signals(
            functools.partial(execute_run, request, caller, build_prefect_runner, flow_run_id=flow_run_id),
            caller.stop_token,
            functools.partial(_record_stop, run_id, caller),
            functools.partial(record_suspend_request, run_id, caller, flow_run_id),
        )
    except BaseException as error:
        if not isinstance(error, LeaseLost) and not caller.stop_token.is_lease_lost:
            raise
        raise Abort(_tell_that_nothing_changes("another process executes this run now", caller)) from error


def _build_flow_result(report: RunReport, flow_run_id: str) -> RunReport:
    """Return the report if the run ended well or is suspended, otherwise the state of its end, with the report."""
    if report.run.state is OperationState.IN_PROGRESS:
        return report
    if is_suspension_requested():  # the run is over, so nothing can be resumed
        correct_flow_run_state(flow_run_id, report.run)
    if report.run.state is OperationState.SUCCEEDED:
        return report
    if report.run.state is OperationState.COMPLETED_WITH_WARNINGS:
        return cast_to_report(build_final_state(report.run, data=report))
    failure = _describe_failure(report) or report.run.message or report.run.state
    failed = FleetPatchFailed(failure, report=report, hint=f"fleetpatch show {report.run.id}")
    return cast_to_report(build_final_state(report.run, f"{failed.message}; {failed.hint}", failed))


def _find_or_admit(request: PatchRequest, caller: Caller) -> RunInfo | AdmittedRun | State[Any]:
    """Return the run that this flow run had begun before it was started again. Otherwise decide whether one may begin.

    A run that may not begin is a cancelled state with the reason.

    Raises:
        LeaseHeld: another process of this flow run executes its run.
        RequestError: the window is not valid.
    """
    earlier_run = None if request.dry_run else _find_earlier_run(request, caller)
    if earlier_run is not None:
        return earlier_run
    admission = admit_run(request, caller, read_flow_run_origin())
    if isinstance(admission, AdmittedRun):
        return admission
    refused = admission.report.run
    renaming = rename_in_background(build_flow_run_name(request, refused.id, refused.window), refused.id)
    if renaming is not None:  # the process may end with this flow run
        renaming.wait_until_delivered(time.monotonic() + _RENAME_SECONDS)
    return build_final_state(refused)


def _record_stop(run_id: str, caller: Caller, reason: str) -> None:
    """Record that a signal stopped the run. In a worker nobody knows who sent it: it was not the run's starter."""
    if caller.source:
        caller = replace(caller, name=UNKNOWN_STARTER)
        reason = f"{reason}: cancelled in Prefect, or its worker was stopped"
    record_stop_request(run_id, caller, reason)


def name_flow_run(request: RunRequest, run_id: str) -> None:
    """Rename this flow run for the run that begins in it, in the background. The name never delays or fails the run."""
    window = build_request_window(request, SystemClock().now())
    rename_in_background(build_flow_run_name(request, run_id, window), run_id)


def rename_in_background(name: str, run_id: str) -> BackgroundCall | None:
    """Give this flow run another name and the tag of its run, in the background. Return None outside a flow run."""
    flow_run_id = str(flow_run.get_id() or "")
    if not flow_run_id:
        return None
    context = FlowRunContext.get()
    tags: list[str] | None = None
    if context is not None and context.flow_run is not None:
        context.flow_run.name = name  # the log of its process has this name at once
        tags = [*dict.fromkeys((*context.flow_run.tags, build_run_tag(run_id)))] if run_id else None

    def rename() -> None:
        with open_fail_fast_client() as client:  # it asks once, and Prefect may take some seconds
            client.update_flow_run(UUID(flow_run_id), name=name, tags=tags)

    return BackgroundCall("the name of the flow run", rename)


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

    return retry_while_unavailable(read_earlier_run, clock, until, caller.listener.on_message)


def wait_for_earlier_process(records: SqlRecords, history: History, run: RunInfo, caller: Caller) -> None:
    """Wait until the earlier process has ended. A suspended one first completes what it began, without a time limit.

    Raises:
        LeaseHeld: the process lives, and it was not suspended.
    """
    suspended = find_suspension(history.read_journal(run.id)) is not None
    remaining_seconds = (run.window.end - SystemClock().now()).total_seconds() if run.window is not None else 0.0
    seconds = max(LEASE_SECONDS + LEASE_GRACE_SECONDS, remaining_seconds)
    wait_for_lease_expiry(
        records.leases,
        run.id,
        print_message=caller.listener.on_message,
        wait_for_live_holder=suspended,
        seconds=seconds,
    )


def _build_earlier_end(run: RunInfo, flow_run_id: str, caller: Caller) -> State[Any]:
    """Return the end of a run of this flow run that is over. Nothing is begun.

    Raises:
        Abort: another process of this flow run has executed the run meanwhile, and has told Prefect this end.
    """
    more = f" ({run.message})" if run.message else ""
    over = f"run {run.id} of this flow run is over: {run.state}{more}"
    age = (SystemClock().now() - run.ended_at).total_seconds() if run.ended_at is not None else _REPORT_SECONDS
    reported_end = wait_for_reported_end(flow_run_id, _REPORT_SECONDS - max(0.0, age))
    final_state = build_final_state(
        run,
        f"{over}. Nothing was begun; start a new run for what is left.",
    )
    if reported_end is final_state.type:
        raise Abort(_tell_that_nothing_changes(over, caller))
    return final_state


def _tell_that_nothing_changes(reason: str, caller: Caller) -> str:
    """Print that this process leaves the run to another one, and return the message."""
    message = f"{reason}: this process ends and changes nothing"
    caller.listener.on_message(message)
    return message


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
