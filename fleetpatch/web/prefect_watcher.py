"""Looks at Prefect without any worker: windows without a run, runs that wait, and whether reconcile-fleet still ends.

`reconcile-fleet` tells of missed windows, but as a run of the work pool: while no worker is there, it tells nothing.
The pages record such a window as missed, and the record decides who notifies: they or the flow, once for each window.
They may write nothing else about windows (``tasks.records.pages_role``). The record of the run follows with the next
`reconcile-fleet`.
"""

import contextvars
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings

from deployments.server.client import open_server_client
from deployments.server.health_checks import USUAL_START_TIME
from flows.ports.caller import Caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS, read_all_pages
from flows.prefect_api.deployment_changes import to_utc_datetime
from flows.prefect_api.tags import build_fleet_tag, find_tagged_sites
from flows.recovery.missed_windows import (
    PATCH_FLOW_NAME,
    MissedWindowRecorder,
    find_due_windows,
    read_managed_deployments,
)
from inventory.machine import DEFAULT_SITE
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Clock
from tasks.records.fleets import find_fleet
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import LoggingListener

logger = logging.getLogger(__name__)

INTERVAL: Final = timedelta(minutes=1)
RECONCILE_SILENCE: Final = timedelta(minutes=20)
"""reconcile-fleet ends every five minutes. So many looks of it may be missing before the pages say so."""
_STOP_SECONDS: Final = 5.0
_WINDOW_FLOWS: Final = frozenset({PATCH_FLOW_NAME, "stage-fleet"})
_RECONCILE_FLOW: Final = "reconcile-fleet"


class PrefectWatcher:
    """Looks once a minute, in a thread of its own, for a fleet; "": for that of this process.

    Attributes:
        problems: what is wrong now, each as a sentence. All threads may read it.
    """

    def __init__(self, records: SqlRecords, fleet: str, clock: Clock) -> None:
        self._records = records
        self._fleet = fleet
        self._clock = clock
        self.problems: tuple[str, ...] = ()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look once a minute until the end of the block."""
        stop = threading.Event()

        def look_until_stopped() -> None:
            while True:
                self.look()
                if stop.wait(INTERVAL.total_seconds()):
                    return

        run = contextvars.copy_context().run  # the thread needs Prefect's settings
        thread = threading.Thread(target=run, args=(look_until_stopped,), name="prefect-watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_STOP_SECONDS)

    def look(self) -> None:
        """Look now. What can't be read is a problem, too. Without a configured server there is nothing to look at."""
        if not get_current_settings().api.url:
            return
        try:
            with open_server_client() as client:
                self.problems = tuple(self._find_problems(client))
        except FleetpatchError as error:
            self.problems = (f"The pages can't watch windows: {error.message}",)
        except Exception as error:  # whatever it is, the next look may work: it must not end the thread
            if not isinstance(error, NO_ANSWER_ERRORS):
                logger.exception("could not look at Prefect's server")
            self.problems = (
                f"The pages can't watch windows: Prefect's server gave no usable answer ({type(error).__name__}).",
            )

    def _find_problems(self, client: SyncPrefectClient) -> Iterator[str]:
        now, fleet_tag = self._clock.now(), build_fleet_tag(self._fleet or find_fleet())
        deployments = [
            (flow, deployment) for flow, deployment in read_managed_deployments(client) if fleet_tag in deployment.tags
        ]
        yield from self._record_missed_windows(
            client, [deployment for flow, deployment in deployments if flow == PATCH_FLOW_NAME], now
        )
        names: dict[UUID | None, str] = {
            deployment.id: deployment.name for flow, deployment in deployments if flow in _WINDOW_FLOWS
        }
        yield from _describe_waiting_runs(
            _read_waiting_runs(client, [waiting_name for waiting_name in names if waiting_name is not None]), names, now
        )
        yield from _describe_reconcile(
            client, [deployment for flow, deployment in deployments if flow == _RECONCILE_FLOW], now
        )

    def _record_missed_windows(
        self, client: SyncPrefectClient, deployments: Sequence[DeploymentResponse], now: datetime
    ) -> Iterator[str]:
        caller = Caller(listener=LoggingListener(), name="the pages")
        due_windows = [
            due
            for deployment in deployments
            if not deployment.paused
            for due in find_due_windows(client, deployment, now, caller)
        ]
        recorder = MissedWindowRecorder(self._records, caller, now, saves_runs=False)
        for _ in recorder.record_new(due_windows):
            pass
        yield from recorder.untold


def _read_waiting_runs(client: SyncPrefectClient, deployment_ids: Sequence[UUID]) -> list[FlowRun]:
    if not deployment_ids:
        return []
    waiting = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
    return list(
        read_all_pages(
            lambda limit, offset: client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(deployment_ids))),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=waiting)),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=limit,
                offset=offset,
            )
        )
    )


def _describe_waiting_runs(runs: Sequence[FlowRun], names: Mapping[UUID | None, str], now: datetime) -> Iterator[str]:
    """Yield a sentence for each run that is due and has not begun."""
    for run in runs:
        due = to_utc_datetime(run.expected_start_time) if run.expected_start_time is not None else None
        if due is None or run.state is None or now - due < USUAL_START_TIME:
            continue
        name, due_text = names.get(run.deployment_id, run.name), f"{due:%d %b %H:%M} UTC"
        if run.state.is_pending():
            reason = "its process does not begin; the server starts it again two minutes after a worker took it"
        elif run.state.message:
            reason = f"{run.state.message}; no worker has taken it since"
        else:
            reason = "no worker has taken it (fleetpatch doctor --server)"
        pool = f" in the pool {run.work_pool_name}" if run.work_pool_name else ""
        yield f"The run of {name}, due {due_text}, waits{pool}: {reason}."


def _describe_reconcile(
    client: SyncPrefectClient, deployments: Sequence[DeploymentResponse], now: datetime
) -> Iterator[str]:
    """Yield a sentence if reconcile-fleet has not completed for long. Interrupted runs are not resumed then."""
    old = [
        deployment
        for deployment in deployments
        if deployment.created and now - to_utc_datetime(deployment.created) > RECONCILE_SILENCE
    ]
    for deployment in old:
        completed = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED]))
        newest = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
            flow_run_filter=FlowRunFilter(state=completed),
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
        ended = to_utc_datetime(newest[0].end_time) if newest and newest[0].end_time is not None else None
        if ended is None or now - ended > RECONCILE_SILENCE:
            since = f"since {ended:%d %b %H:%M} UTC" if ended is not None else "yet"
            site = next(iter(find_tagged_sites(deployment.tags)), DEFAULT_SITE)
            at_site, there = (f" at the site {site}", " there") if len(deployments) > 1 else ("", "")
            yield (
                f"reconcile-fleet{at_site} has not completed {since}: nobody resumes interrupted runs{there}. "
                "Is a worker online? fleetpatch doctor --server"
            )
