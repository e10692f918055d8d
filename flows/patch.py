"""patch_fleet: patch machines inside a window. resume_fleet: go on with a run that was left."""

import functools
from dataclasses import replace
from typing import cast

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from flows.attended import attended
from flows.carrying import carry_out, take_up
from flows.context import Caller, caller
from flows.past import resumable
from flows.recovery import LeftRun, note_stop, take_if_left, take_left, wait_for_lease
from flows.request import PatchRequest
from flows.runlog import logged
from flows.settle import settle_cancelled, settle_crashed
from flows.spread import prefect_runner
from flows.windowed import Refused, flow_start, windowed
from tasks.errors import FleetPatchFailed
from tasks.model import RunInfo, RunReport
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.rules.approval import SOMEBODY
from tasks.rules.hooks import stops, why_stopped
from tasks.states import OperationState


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
    begun = None if request.dry_run else begun_before(who)
    if begun is not None:
        return raised_if_failed(taken_up(begun.id, who))
    start = flow_start()
    may = windowed(request, who, start)
    if isinstance(may, Refused):
        return cancelled(may)
    # Prefect does not know people: whoever pressed the button, it was not the user whom the worker runs as.
    somebody = f"{SOMEBODY} ({start.deployment})" if start.deployment else ""
    who = replace(who, run_id=may.run_id, name=may.by or who.name or somebody)
    body = functools.partial(carry_out, may.request, who, prefect_runner, flow_run_id=str(flow_run.get_id() or ""))
    return raised_if_failed(attended(body, who.control, functools.partial(note_stop, may.run_id, who)))


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
    if not if_abandoned:
        return raised_if_failed(taken_up(run_id, who))
    report = take_if_left(run_id, who, take_attended)
    if isinstance(report, str):
        return _nothing_to_do(report)
    return raised_if_failed(report)


def take_attended(left: LeftRun, who: Caller) -> RunReport:
    """Take up a run that was left, as part of this flow run; see ``take_left``."""
    who.watch.said(f"run {left.run.id} is {f'settled: {left.settle}' if left.settle else 'resumed'}")
    body = functools.partial(take_left, left, who, prefect_runner, flow_run_id=str(flow_run.get_id() or ""))
    return attended(body, who.control, functools.partial(note_stop, left.run.id, who))


def _nothing_to_do(why: str) -> RunReport:
    state: object = Completed(message=f"nothing to take up: {why}")
    return cast("RunReport", state)


def cancelled(refused: Refused) -> RunReport:
    """Prefect takes a state that a flow returns for its own; who called the flow gets CancelledRun raised."""
    state: object = Cancelled(message=refused.refusal.reason)
    return cast("RunReport", state)


def begun_before(who: Caller) -> RunInfo | None:
    """Return the run that this flow run had begun before it was started again; None at its first start.

    Raises:
        RequestError: that run is over.
    """
    if (flow_run.run_count or 0) <= 1:
        return None
    with open_records(who.records_url) as records:
        run = History(records).run_of_flow(str(flow_run.get_id() or ""))
        if run is None:
            return None
        resumable(run)
        wait_for_lease(records.leases, run.id, say=who.watch.said)
    who.watch.said(f"started again: going on with run {run.id}")
    return run


def taken_up(run_id: str, who: Caller) -> RunReport:
    """Take up a run that the caller has named, as part of this flow run; see ``take_up``."""
    body = functools.partial(take_up, run_id, who, prefect_runner, flow_run_id=str(flow_run.get_id() or ""))
    return attended(body, who.control, functools.partial(note_stop, run_id, who))


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
