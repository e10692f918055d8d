"""reconcile_fleet: take up the runs that nobody carries out any more. For a schedule."""

import functools

from prefect import flow

from flows.attended import attended
from flows.context import Caller, caller
from flows.missed import note_missed_windows
from flows.recovery import LeftRun, left_runs, note_stop, reconcile_runs, take_left
from flows.runlog import logged
from flows.spread import prefect_runner
from tasks.errors import LeaseHeld, PatchError
from tasks.model import RunReport


@flow(name="reconcile-fleet", persist_result=False)
def reconcile_fleet(dry_run: bool = False) -> list[str]:
    """Take up runs whose process died: resume them while their window is open, settle them when it is over.

    A run that was asked to stop is settled as well. Settling begins nothing new: what runs on machines is seen to its
    end, and each machine's true state is recorded.

    Windows of the last days that no run had (Prefect cancelled it, no worker took it) are recorded as missed, and
    people are told, once.

    Args:
        dry_run: only say which runs those are.

    Returns:
        The ids of the runs.

    Raises:
        PatchError: some run could not be taken up; all the others were.
    """
    who = logged(caller())
    if dry_run:
        for left in left_runs(who.records_url):
            who.watch.said(f"run {left.run.id}: would be {f'settled: {left.settle}' if left.settle else 'resumed'}")
        return [left.run.id for left in left_runs(who.records_url)]
    note_missed_windows(who)
    done = reconcile_runs(who, _take)
    errors = [(each.left.run.id, each.error) for each in done if each.error is not None]
    failed = [f"{run}: {error.message}" for run, error in errors if not isinstance(error, LeaseHeld)]  # that is as good
    if failed:
        raise PatchError(f"{len(failed)} of {len(done)} runs could not be taken up: {'; '.join(failed)}")
    return [each.left.run.id for each in done]


def _take(left: LeftRun, who: Caller) -> RunReport:
    who.watch.said(f"run {left.run.id} is {f'settled: {left.settle}' if left.settle else 'resumed'}")
    body = functools.partial(take_left, left, who, prefect_runner)
    return attended(body, who.control, functools.partial(note_stop, left.run.id, who))
