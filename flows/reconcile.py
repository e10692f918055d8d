"""reconcile_fleet: have the runs taken up that nobody carries out any more. For a schedule."""

import functools
from contextlib import suppress

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment

from flows.attended import attended
from flows.context import Caller, caller
from flows.hearing import NO_ANSWER
from flows.missed import fleets_of, note_missed_windows, own_fleets
from flows.predecessor import stop_cancelled
from flows.recovery import LeftRun, left_runs, take_all, take_left
from flows.runlog import logged
from flows.spread import prefect_runner
from flows.successor import start_successor
from flows.tags import FLEET, standing_name
from tasks.errors import LeaseHeld, PatchError
from tasks.model import RunReport
from tasks.seams.clock import SystemClock

RESUME = "resume-fleet/on-demand"
"""The deployment that takes up each run. Whoever deploys this flow deploys that one beside it."""


@flow(name="reconcile-fleet", persist_result=False)
def reconcile_fleet(dry_run: bool = False) -> list[str]:
    """Have runs taken up whose process died: resumed while their window is open, settled when it is over.

    A run that was asked to stop is settled as well, and one that was suspended is left alone until its window is over,
    unless its flow run was cancelled or deleted. Settling begins nothing new: what runs on machines is seen to its
    end, and each machine's true state is recorded.

    Windows of the last days that no run had (Prefect cancelled it, no worker took it) are recorded as missed, and
    people are told, once.

    As a deployment it only starts a flow run of ``resume-fleet`` for each, and ends: no run waits for another one's
    end. Called as a function it takes all of them up itself, at once, and returns when all have ended.

    Args:
        dry_run: only say which runs those are.

    Returns:
        The ids of the runs.

    Raises:
        PatchError: some run could not be taken up; all the others were.
    """
    who = logged(caller())
    found = left_runs(who.records_url)
    if dry_run:
        for left in found:
            who.watch.said(f"run {left.run.id}: would be {left.action}")
        return [left.run.id for left in found]
    note_missed_windows(who)
    found = tuple(stop_cancelled(found, who))
    resume = _resume_deployment() if found and deployment.get_id() else None
    failed = _start_all(found, resume, who) if resume is not None else _take_all(found, who)
    if failed:
        raise PatchError(f"{len(failed)} of {len(found)} runs could not be taken up: {'; '.join(failed)}")
    return [left.run.id for left in found]


def _resume_deployment() -> DeploymentResponse | None:
    """Return the fleet's own deployment that takes runs up; one that says no fleet is everybody's."""
    mine = own_fleets()
    names = [standing_name(RESUME, tag.removeprefix(FLEET)) for tag in sorted(mine)]
    with get_client(sync_client=True) as client:
        for name in dict.fromkeys((*names, RESUME)):
            with suppress(ObjectNotFound):
                found = client.read_deployment_by_name(name)
                theirs = fleets_of(found.tags)
                if not mine or not theirs or theirs & mine:
                    return found
    return None


def _start_all(found: tuple[LeftRun, ...], resume: DeploymentResponse, who: Caller) -> list[str]:
    """Start a flow run for each; return which could not be started, and why. The next reconcile tries again."""
    failed, now = [], SystemClock().now()
    with get_client(sync_client=True) as client:
        for left in found:
            if left.waits:
                who.watch.said(f"run {left.run.id} is {left.action}")
                continue
            try:
                made = start_successor(client, resume, left, now)
            except NO_ANSWER as error:
                failed.append(f"{left.run.id}: {type(error).__name__}: {error}")
                continue
            if made.is_new:
                who.watch.said(f"run {left.run.id}: flow run {made.name} is started; it would be {left.action} now")
            else:
                since = f"{made.state} since {made.since:%Y-%m-%d %H:%M:%S} UTC"
                who.watch.said(f"run {left.run.id}: flow run {made.name} is on its way ({since})")
    return failed


def _take_all(found: tuple[LeftRun, ...], who: Caller) -> list[str]:
    """Take all up here; return which could not be, and why. That somebody else has taken one up is as good."""
    if found and deployment.get_id():
        who.watch.said(f"there is no deployment {RESUME}: runs are taken up here; `fleetpatch deploy` makes it")

    def take(left: LeftRun, mine: Caller) -> RunReport:
        mine.watch.said(f"run {left.run.id} is {left.action}")
        return take_left(left, mine, prefect_runner)

    # What is asked of this process is noted by each of the runs on its own.
    done = attended(functools.partial(take_all, found, who, take), who.control)
    errors = [(each.left.run.id, each.error) for each in done if each.error is not None]
    return [f"{run}: {error.message}" for run, error in errors if not isinstance(error, LeaseHeld)]
