"""The flow reconcile_fleet: recover abandoned runs. A schedule starts it."""

import functools

from prefect.client.orchestration import get_client
from prefect.runtime import deployment

from flows.leftovers import delete_leftovers, tell_leftovers
from flows.ports.caller import Caller, current_caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.prefect_runtime.runner import build_prefect_runner
from flows.prefect_runtime.signals import run_with_signals
from flows.recovery.flow_runs import (
    RESUME_DEPLOYMENT,
    end_orphaned_flow_runs,
    find_orphaned_flow_runs,
    find_resume_deployment,
    start_resume_flow_run,
    stop_runs_cancelled_in_prefect,
)
from flows.recovery.missed_windows import record_missed_windows
from flows.recovery.reconciliation import recover_run, recover_runs
from flows.recovery.unfinished_runs import AbandonedRun, find_abandoned_runs
from flows.recovery.unpublished_ends import publish_missing_ends
from inventory.machine import DEFAULT_SITE
from inventory.name_lists import format_count
from inventory.sites import SITE_VARIABLE, find_site
from tasks.domain.errors import PatchError
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import LeaseHeld
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records


@flow(name="reconcile-fleet", persist_result=False)
def reconcile_fleet(dry_run: bool = False) -> list[str]:
    """Recover runs whose process died: resume them while their window is open, finalize them when it is over.

    A run that was asked to stop is finalized too. A suspended run is not changed until its window is over, unless its
    flow run was cancelled or deleted. Finalizing begins nothing new: it waits for jobs that run on machines, and
    records each machine's true state.

    A flow run of the last two days that Prefect shows with another end than the records, or without one, gets the end
    that the records have: its server was away at the end of the run, or it was cancelled too late. One whose run the
    records don't have is told, and left alone. The end of a run whose process died before it had told anybody is
    published.

    Scheduled events whose run has ended, or whose time is over, are ended. Snapshots that have expired are deleted, and
    copies of machines that rehearsals of ended runs have left.

    Windows of the last days without a run (Prefect cancelled it, or no worker started it) are recorded as missed. One
    notification is sent for each.

    At another site than the default one, only that site's runs are looked at, and no windows: the worker there may be
    the only one that is alive. At the default site it is the runs of all sites, so that a run is seen whose site is
    gone.

    As a deployment this flow only starts one flow run of ``resume-fleet`` for each run and ends, so no run waits for
    another run. As a function it recovers all runs itself, at the same time, and returns when all have ended.

    Args:
        dry_run: only list these runs.

    Returns:
        The ids of the runs.

    Raises:
        PatchError: a run could not be recovered; all others were.
    """
    caller, site = log_to_flow_run(current_caller()), find_site()
    own_site = site if site != DEFAULT_SITE else ""
    abandoned_runs = tuple(
        abandoned_run
        for abandoned_run in find_abandoned_runs(caller.records_url)
        if own_site in {"", abandoned_run.run.site}
    )
    if dry_run:
        for abandoned_run in abandoned_runs:
            caller.listener.on_message(f"run {abandoned_run.run.id}: would be {abandoned_run.planned_action}")
        with get_client(sync_client=True) as client:
            for orphan in find_orphaned_flow_runs(client, caller.records_url, SystemClock().now(), own_site):
                end = ": would be corrected in Prefect" if orphan.run is not None else ""
                caller.listener.on_message(f"{orphan.description}{end}")
        tell_leftovers(caller, caller.listener.on_message)
        return [abandoned_run.run.id for abandoned_run in abandoned_runs]
    if not own_site:  # the targets of notifications may be known there only
        record_missed_windows(caller)
    with get_client(sync_client=True) as client:
        for orphan in end_orphaned_flow_runs(client, caller.records_url, SystemClock().now(), own_site):
            end = ": corrected in Prefect" if orphan.run is not None else ""
            caller.listener.on_message(f"{orphan.description}{end}")
    _end_forgotten_events(caller)
    delete_leftovers(caller, caller.listener.on_message)
    abandoned_runs = tuple(stop_runs_cancelled_in_prefect(abandoned_runs, caller))
    with get_client(sync_client=True) as client:
        has_deployments = bool(abandoned_runs and deployment.get_id() and find_resume_deployment(client, site))
    failed = (_start_resume_flow_runs if has_deployments else _recover_in_process)(abandoned_runs, caller)
    publish_missing_ends(caller, caller.listener.on_message)
    if failed:
        raise PatchError(
            f"{len(failed)} of {format_count(len(abandoned_runs), 'run')} could not be recovered: {'; '.join(failed)}"
        )
    return [abandoned_run.run.id for abandoned_run in abandoned_runs]


def _end_forgotten_events(caller: Caller) -> None:
    """End scheduled events whose run is over or too late: a process that died could not do it."""
    with open_records(caller.records_url) as records:
        for event in SqlScheduledEvents(records.database).end_forgotten():
            machines = ", ".join(event.resources)
            caller.listener.on_message(f"run {event.run_id}: its event for {machines} ({event.event_type}) was ended")


def _start_resume_flow_runs(abandoned_runs: tuple[AbandonedRun, ...], caller: Caller) -> list[str]:
    """Start a flow run for each run, by the deployment that resumes the runs of its site.

    Return the failures with their reasons; the next reconcile tries them again.
    """
    failed, now = [], SystemClock().now()
    with get_client(sync_client=True) as client:
        for run in abandoned_runs:
            if run.wait_reason:
                caller.listener.on_message(f"run {run.run.id} is {run.planned_action}")
                continue
            try:
                resume = find_resume_deployment(client, run.run.site)
                if resume is None:
                    remedy = f"end it there: {SITE_VARIABLE}={run.run.site} fleetpatch resume {run.run.id} --finalize"
                    failed.append(
                        f"{run.run.id}: the site {run.run.site} has no deployment that resumes runs; {remedy}"
                    )
                    continue
                started = start_resume_flow_run(client, resume, run, now)
            except NO_ANSWER_ERRORS as error:
                failed.append(f"{run.run.id}: {type(error).__name__}: {error}")
                continue
            if started.is_new:
                caller.listener.on_message(
                    f"run {run.run.id}: flow run {started.name} is started; it would be {run.planned_action} now"
                )
            else:
                since = f"{started.state} since {started.since:%Y-%m-%d %H:%M:%S} UTC"
                caller.listener.on_message(f"run {run.run.id}: flow run {started.name} is on its way ({since})")
    return failed


def _recover_in_process(abandoned_runs: tuple[AbandonedRun, ...], caller: Caller) -> list[str]:
    """Recover all runs in this process. Return the failures with their reasons; LeaseHeld is no failure."""
    if abandoned_runs and deployment.get_id():
        caller.listener.on_message(
            f"there is no deployment {RESUME_DEPLOYMENT}: this flow run recovers the runs; "
            "`fleetpatch deploy` creates it"
        )

    def recover(abandoned_run: AbandonedRun, run_caller: Caller) -> RunReport:
        run_caller.listener.on_message(f"run {abandoned_run.run.id} is {abandoned_run.planned_action}")
        return recover_run(abandoned_run, run_caller, build_prefect_runner)

    # Each run records a stop request to this process separately.
    results = run_with_signals(functools.partial(recover_runs, abandoned_runs, caller, recover), caller.stop_token)
    return [
        f"{result.abandoned_run.run.id}: {result.error.message}"
        for result in results
        if result.error is not None and not isinstance(result.error, LeaseHeld)
    ]
