"""patch_fleet: patch machines inside a window. resume_fleet: go on with a run that was left."""

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import cast

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows.attended import attended
from flows.carrying import carry_out, take_up
from flows.context import Caller, caller
from flows.keeper import LEASE_SECONDS
from flows.predecessor import set_right, state_of, was_cancelled
from flows.recovery import BEYOND_LEASE_SECONDS, LeftRun, note_stop, take_if_left, take_left, wait_for_lease
from flows.request import PatchRequest
from flows.runlog import logged
from flows.settle import settle_cancelled, settle_crashed
from flows.spread import prefect_runner
from flows.suspension import note_suspension, suspension_of
from flows.windowed import Admitted, Refused, flow_start, patiently, windowed
from tasks.errors import FleetPatchFailed
from tasks.model import RunInfo, RunReport
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.sql import SqlRecords
from tasks.rules.approval import SOMEBODY
from tasks.rules.hooks import stops, why_stopped
from tasks.seams.clock import SystemClock
from tasks.states import OPEN, OperationState


@flow(name="patch-fleet", persist_result=False, on_cancellation=[settle_cancelled], on_crashed=[settle_crashed])
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
    who = logged(caller())
    begun = None if request.dry_run else begun_before(request, who)
    if begun is not None:
        return gone_on_with(begun, who)
    start = flow_start()
    may = windowed(request, who, start)
    if isinstance(may, Refused):
        return cancelled(may)
    # Prefect does not know people: whoever pressed the button, it was not the user whom the worker runs as.
    somebody = f"{SOMEBODY} ({start.deployment})" if start.deployment else ""
    who = replace(who, run_id=may.run_id, name=may.by or who.name or somebody)
    return ended(carried_out(may, who), who)


@flow(name="resume-fleet", persist_result=False, on_cancellation=[settle_cancelled], on_crashed=[settle_crashed])
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
    who = logged(caller())
    if settle:
        who.control.stop("the run is only settled")
    run = _named(run_id, who)
    if run.state not in OPEN and (flow_run.run_count or 0) > 1:
        return gone_on_with(run, who)
    if not if_abandoned:
        return ended(taken_up(run.id, who), who)
    flow_run_id = str(flow_run.get_id() or "")
    report = take_if_left(run_id, who, take_attended, flow_run_id=flow_run_id)
    if isinstance(report, str):
        return _nothing_to_do(report)
    return ended(report, who)


def carried_out(may: Admitted, who: Caller) -> RunReport:
    """Carry out a run that may begin, as this flow run."""
    flow_run_id = str(flow_run.get_id() or "")
    return _attended(functools.partial(carry_out, may.request, who, prefect_runner), may.run_id, who, flow_run_id)


def take_attended(left: LeftRun, who: Caller) -> RunReport:
    """Take up a run that was left, as part of this flow run; see ``take_left``."""
    who.watch.said(f"run {left.run.id} is {left.action}")
    flow_run_id = str(flow_run.get_id() or "")
    return _attended(functools.partial(take_left, left, who, prefect_runner), left.run.id, who, flow_run_id)


def taken_up(run_id: str, who: Caller) -> RunReport:
    """Take up a run that the caller has named, as part of this flow run; see ``take_up``."""
    flow_run_id = str(flow_run.get_id() or "")
    return _attended(functools.partial(take_up, run_id, who, prefect_runner), run_id, who, flow_run_id)


def _attended(body: Callable[..., RunReport], run_id: str, who: Caller, flow_run_id: str) -> RunReport:
    return attended(
        functools.partial(body, flow_run_id=flow_run_id),
        who.control,
        functools.partial(note_stop, run_id, who),
        functools.partial(note_suspension, run_id, who, flow_run_id),
    )


def _named(run_id: str, who: Caller) -> RunInfo:
    """Return the run that resume_fleet was given. If that was suspended in this flow run, its process has ended."""
    with open_records(who.records_url) as records:
        history = History(records)
        run = history.run(run_id)
        suspension = suspension_of(history.journal(run.id))
        if run.state in OPEN and suspension is not None and suspension.flow_run_id == str(flow_run.get_id()):
            _wait_for_earlier(records, history, run, who)
        return history.run(run.id)


def _nothing_to_do(why: str) -> RunReport:
    return as_report(Completed(message=f"nothing to take up: {why}"))


def cancelled(refused: Refused) -> RunReport:
    """Who called the flow gets CancelledRun raised."""
    return as_report(Cancelled(message=refused.refusal.reason))


def begun_before(request: PatchRequest, who: Caller) -> RunInfo | None:
    """Return the run that this flow run had begun before it was started again; None at its first start.

    Prefect's own count of starts does not tell: it is not raised when a flow run that was suspended is resumed.

    Raises:
        LeaseHeld: somebody carries it.
        RecordsError: the records can't be asked.
    """
    flow_run_id, clock = str(flow_run.get_id() or ""), SystemClock()
    until = clock.now() + timedelta(minutes=request.window.minutes)

    def look() -> RunInfo | None:
        with open_records(who.records_url) as records:
            history = History(records)
            run = history.run_of_flow(flow_run_id)
            if run is not None and run.state in OPEN:
                _wait_for_earlier(records, history, run, who)
                run = history.run(run.id)
            return run

    return patiently(look, who, clock, until)


def _wait_for_earlier(records: SqlRecords, history: History, run: RunInfo, who: Caller) -> None:
    """Wait until the earlier process is gone. One that was suspended ends what it has begun, however long that takes.

    Raises:
        LeaseHeld: it lives, and nobody has told it to end.
    """
    suspended = suspension_of(history.journal(run.id)) is not None
    left = (run.window.end - SystemClock().now()).total_seconds() if run.window is not None else 0.0
    seconds = max(LEASE_SECONDS + BEYOND_LEASE_SECONDS, left)
    wait_for_lease(records.leases, run.id, say=who.watch.said, patient=suspended, seconds=seconds)


def gone_on_with(run: RunInfo, who: Caller) -> RunReport:
    """Go on with the run that this flow run had begun; one that is over stays as it ended.

    Raises:
        LeaseHeld: somebody carries it.
    """
    if run.state not in OPEN:
        message = f"run {run.id} of this flow run is over: {run.state}"
        more = f" ({run.message})" if run.message else ""
        told = f"{message}{more}. Nothing was begun; start a new run for what is left."
        return as_report(state_of(run, told, was_cancelled=was_cancelled(str(flow_run.get_id() or ""))))
    who.watch.said(f"started again: going on with run {run.id}")
    return ended(taken_up(run.id, who), who)


def ended(report: RunReport, who: Caller) -> RunReport:
    """Return the report of a run that has ended well, or that is suspended; else a failed state that has it.

    Who called the flow gets FleetPatchFailed raised. Prefect shows a state with a message, and logs no traceback.
    """
    if report.run.state is OperationState.IN_PROGRESS:
        return report
    if who.control.suspended:  # and nothing was left to be gone on with
        set_right(str(flow_run.get_id() or ""), report.run)
    try:
        return raised_if_failed(report)
    except FleetPatchFailed as failed:
        return as_report(Failed(message=f"{failed.message}; {failed.hint}", data=failed))


def as_report(state: object) -> RunReport:
    """Prefect takes a state that a flow returns for its own."""
    return cast("RunReport", state)


def raised_if_failed(report: RunReport) -> RunReport:
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
        why = "; ".join(why_stopped(result) for result in report.hooks if stops(result))
        raise FleetPatchFailed(why or "the run failed", report=report, hint=f"fleetpatch show {report.run.id}")
    return report
