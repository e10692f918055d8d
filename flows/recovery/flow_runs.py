"""Flow runs of unfinished and finished runs in Prefect: what recovery starts, reads and corrects there.

Only one flow run resumes a run at a time, however many processes request it. A flow run is orphaned if Prefect shows
another end than the records, or none: Prefect's server was away at the end of the run, a process was killed after it, a
cancellation came too late, or the run was ended by another process. One whose run the records don't have is left alone.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.ports.audit import find_flow_runs_of_run
from flows.ports.caller import Caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS, read_all_pages
from flows.prefect_api.deployment_changes import to_utc_datetime
from flows.prefect_api.flow_run_starter import find_fleet_deployment
from flows.prefect_api.tags import add_fleet_tag, build_run_tag, build_site_name, serves_fleet
from flows.prefect_runtime.end_states import build_final_state
from flows.prefect_runtime.flow_run_origin import build_resume_idempotency_key
from flows.prefect_runtime.flow_run_states import close_flow_runs_of, end_flow_run
from flows.recovery.cancellation import record_stop_request
from flows.recovery.unfinished_runs import AbandonedRun, find_run_of_flow_run
from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunInfo
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.audit.log import SqlAuditLog
from tasks.records.fleets import find_fleet
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

logger = logging.getLogger(__name__)

RESUME_DEPLOYMENT: Final = "resume-fleet/on-demand"
"""The deployment that resumes one run. `fleetpatch deploy` creates it together with the deployment of reconcile_fleet.
"""
_RECORDED_FLOW_NAMES: Final = ("patch-fleet", "assess-fleet", "plan-fleet", "stage-fleet")
"""The flows of which each flow run that is Running or Completed has a run in the records."""
RUN_FLOW_NAMES: Final = (*_RECORDED_FLOW_NAMES, "resume-fleet", "upgrade-components")
"""The flows whose runs are in the records."""
COMPARED_PERIOD: Final = timedelta(days=2)
"""Flow runs that ended longer ago are not compared with the records any more."""
DELIVERY_TIME: Final = timedelta(seconds=30)
"""After its end, a run's own process may still be about to tell Prefect of it."""
START_TIME: Final = timedelta(minutes=5)
"""A flow run that is Pending for less time may be about to begin once more."""
_OPEN_STATES: Final = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED)
STARTUP_GRACE: Final = timedelta(minutes=10)
"""The maximum time from the start of a flow run's process to the lease of its run, on a busy machine."""
HANDOVER_TIME: Final = timedelta(seconds=10)
"""The maximum time in which a flow run that waits for the lease of a dead process takes it after its end."""


@dataclass(frozen=True, slots=True)
class ResumeFlowRun:
    """The flow run that resumes a run."""

    name: str
    state: str
    is_new: bool  # whether it was created now; False: an earlier one is waiting or starting
    since: datetime  # when it was created, or when it got its present state


def find_resume_deployment(client: SyncPrefectClient, site: str) -> DeploymentResponse | None:
    """Return the deployment that resumes the runs of a site of this fleet; None if there is none.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    return find_fleet_deployment(client, build_site_name(RESUME_DEPLOYMENT, site))


def start_resume_flow_run(
    client: SyncPrefectClient, resume: DeploymentResponse, abandoned_run: AbandonedRun, now: datetime
) -> ResumeFlowRun:
    """Create a flow run that resumes a run, unless one is already waiting or starting.

    Processes that ask at the same time get the same flow run: the id of the flow run before it is in the idempotency
    key. Clocks of clients order flow runs, so Prefect may have one for this key that is dead: then its id is in the
    next key. The new flow run decides itself what to do when it begins, because it may wait long for a worker.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
        ValueError: the server returns dead flow runs only.
    """
    tag = build_run_tag(abandoned_run.run.id)
    newest = client.read_flow_runs(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[resume.flow_id])),
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    before = newest[0] if newest else None
    if before is not None and may_still_resume(before, abandoned_run, now):
        return _build_resume_flow_run(before, is_new=False, now=now)
    for _ in range(3):
        key = build_resume_idempotency_key(abandoned_run.run.id, str(before.id) if before is not None else "")
        made = client.create_flow_run_from_deployment(
            resume.id,
            name=f"resume {abandoned_run.run.id}",
            parameters={"run_id": abandoned_run.run.id, "if_abandoned": True},
            tags=[*add_fleet_tag(resume.tags, find_fleet()), tag],
            idempotency_key=key,
        )
        if may_still_resume(made, abandoned_run, now):
            return _build_resume_flow_run(made, is_new=True, now=now)
        before = made
    raise ValueError(f"Prefect returns only flow runs that are over; the last one is {made.name} ({made.id})")


def may_still_resume(resume_flow_run: FlowRun, abandoned_run: AbandonedRun, now: datetime) -> bool:
    """Return whether a flow run may still resume the run that it was created for. Pure.

    A flow run that waits for a worker may, without a time limit. After its process has started it has some minutes to
    take the run lease. If it began while a dead process still had the lease, it takes it seconds after its end. If the
    lease has ended again, or was never taken, its process is dead.
    """
    state = resume_flow_run.state
    if state is None or state.is_final() or state.is_cancelling():
        return False
    if state.type is StateType.SCHEDULED:
        return True
    if state.timestamp < abandoned_run.since:
        return now - abandoned_run.since < HANDOVER_TIME
    return now - state.timestamp < STARTUP_GRACE


def _build_resume_flow_run(resume_flow_run: FlowRun, *, is_new: bool, now: datetime) -> ResumeFlowRun:
    state = resume_flow_run.state
    since = datetime.fromtimestamp(state.timestamp.timestamp(), now.tzinfo) if state is not None else now
    return ResumeFlowRun(resume_flow_run.name, state.name or "" if state is not None else "", is_new, since)


def stop_runs_cancelled_in_prefect(abandoned_runs: Sequence[AbandonedRun], caller: Caller) -> Iterator[AbandonedRun]:
    """Yield the abandoned runs. Ask a run to stop if a flow run that had it was cancelled, or deleted while suspended.

    A flow run that is cancelled while it is suspended has no process, so Prefect can't notify one. The process of
    another one may have been killed before it stored the stop request.
    """
    for left in abandoned_runs:
        reason = "" if left.finalize_reason else _find_cancellation(left, caller)
        if reason:
            record_stop_request(left.run.id, replace(caller, name=caller.name or "Prefect"), reason)
        yield replace(left, finalize_reason=reason) if reason else left


def _find_cancellation(left: AbandonedRun, caller: Caller) -> str:
    is_suspended = bool(left.wait_reason) and left.suspension is not None
    with open_records(caller.records_url) as records:
        flow_run_ids = {left.run.flow_run_id, *find_flow_runs_of_run(SqlAuditLog(records.database), left.run.id)}
    if left.suspension is not None and is_suspended:
        flow_run_ids = {left.suspension.flow_run_id}
    if not (flow_run_ids := flow_run_ids - {""}):
        return ""
    with get_client(sync_client=True) as client:
        for flow_run_id in sorted(flow_run_ids):
            try:
                state = client.read_flow_run(UUID(flow_run_id)).state
            except ObjectNotFound:  # the flow run of a run that is not suspended may be of a server that is gone
                if is_suspended:
                    return "its flow run was deleted in Prefect while it was suspended"
                continue
            if state is not None and (state.is_cancelled() or state.is_cancelling()):
                return "cancelled in Prefect while it was suspended" if is_suspended else "cancelled in Prefect"
    return ""


def close_flow_runs_of_ended_run(run_id: str, own_flow_run_id: str, caller: Caller) -> None:
    """Let every other flow run of a run that is over show this end, as after a cancellation that came too late.

    Raises nothing: the state in Prefect has no effect on machines, and reconcile-fleet compares it again.
    """
    try:
        with open_records(caller.records_url) as records:
            report, lease = History(records).read_report(run_id), records.leases.find_lease(run_id)
            flow_run_ids = find_flow_runs_of_run(SqlAuditLog(records.database), run_id)
        if lease is None or not lease.is_held:  # else its own process is about to tell Prefect
            close_flow_runs_of(report, flow_run_ids, own_flow_run_id)
    except (RecordsError, *NO_ANSWER_ERRORS) as error:
        logger.warning("Prefect may show another end of run %s: %s", run_id, error)


@dataclass(frozen=True, slots=True)
class OrphanedFlowRun:
    """A flow run whose end in Prefect is not that of its run in the records."""

    flow_run: FlowRun
    run: RunInfo | None  # None: the records have no run of it, so nobody knows its end

    @property
    def description(self) -> str:
        """Which flow run it is, and how its run ended, as text."""
        shown = f"flow run {self.flow_run.name} is {self.flow_run.state_name or 'without a state'} in Prefect"
        if self.run is None:
            return f"{shown}, and the records have no run of it: left alone"
        return f"{shown}, and run {self.run.id} is over: {self.run.state}"


def find_orphaned_flow_runs(
    client: SyncPrefectClient, records_url: str | None, now: datetime, site: str = ""
) -> tuple[OrphanedFlowRun, ...]:
    """Return the orphaned flow runs of these records, of one site or (with "") of all. They are open, or ended lately.

    With "", those whose run the records don't have are among them: other records were restored, or it was deleted.

    Raises:
        RecordsError: the records can't be read.
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    of_runs = FlowFilter(name=FlowFilterName(any_=list(RUN_FLOW_NAMES)))
    recorded = FlowFilter(name=FlowFilterName(any_=list(_RECORDED_FLOW_NAMES)))
    filters = (
        FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_OPEN_STATES)))),
        FlowRunFilter(end_time=FlowRunFilterEndTime(after_=cast("Any", now - COMPARED_PERIOD))),
    )
    flow_runs = {
        flow_run.id: flow_run
        for run_filter in filters
        for flow_run in read_all_pages(
            lambda limit, offset, run_filter=run_filter: client.read_flow_runs(  # type: ignore[misc]
                flow_filter=of_runs, flow_run_filter=run_filter, sort=FlowRunSort.ID_DESC, limit=limit, offset=offset
            )
        )
    }
    if not flow_runs:
        return ()
    recorded_flow_ids = {
        flow.id
        for flow in read_all_pages(
            lambda limit, offset: client.read_flows(flow_filter=recorded, limit=limit, offset=offset)
        )
    }
    with open_records(records_url) as records:
        return tuple(
            OrphanedFlowRun(flow_run, run)
            for flow_run in flow_runs.values()
            for run in [find_run_of(records, flow_run)]
            if (
                site in {"", run.site} and _is_orphaned(records, flow_run, run, now)
                if run is not None
                else not site and flow_run.flow_id in recorded_flow_ids and _is_unknown(flow_run, now)
            )
        )


def find_run_of(records: SqlRecords, flow_run: FlowRun) -> RunInfo | None:
    """Return the run that a flow run has begun or resumed; None if the records have none.

    Whoever may use Prefect writes the parameters: the records say whether this flow run has ever had the run.
    """
    run_name = str((flow_run.parameters or {}).get("run_id") or flow_run.id)
    return find_run_of_flow_run(records, run_name, str(flow_run.id))


def _is_orphaned(records: SqlRecords, flow_run: FlowRun, run: RunInfo, now: datetime) -> bool:
    """Return whether Prefect shows another end of a flow run than its run has, and nobody is about to correct it."""
    state = flow_run.state
    if state is None or run.state in UNFINISHED_RUN_STATES or run.ended_at is None:
        return False
    end = build_final_state(run)
    shows_end = state.type is end.type and state.name != OperationState.UNKNOWN  # which no end in the records is
    if shows_end or now - run.ended_at < DELIVERY_TIME:
        return False
    if not run.may_change_machines:  # without a lease; its flow has its own judgement of what could not be read
        return not state.is_final() and now - run.ended_at >= START_TIME
    if run.state is OperationState.NOT_STARTED and run.refusal is None and state.is_cancelled():
        return False  # an older version did not record why it refused a run
    if state.is_pending() and now - to_utc_datetime(state.timestamp) < START_TIME:
        return False
    lease = records.leases.find_lease(run.id)
    return lease is None or not lease.is_held  # else its process is about to tell Prefect


def _is_unknown(flow_run: FlowRun, now: datetime) -> bool:
    """Return whether the records should have a run of a flow run of this fleet that a worker executed. Pure."""
    state = flow_run.state
    if state is None or flow_run.deployment_id is None or not serves_fleet(flow_run.tags, find_fleet()):
        return False
    return state.is_completed() or (state.is_running() and now - to_utc_datetime(state.timestamp) > START_TIME)


def end_orphaned_flow_runs(
    client: SyncPrefectClient, records_url: str | None, now: datetime, site: str = ""
) -> tuple[OrphanedFlowRun, ...]:
    """Let the orphaned flow runs show the end that the records have, and return them as they were.

    They are those of one site, or with "" of all. One whose run the records don't have is left alone.

    Raises:
        RecordsError: the records can't be read.
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    orphaned = find_orphaned_flow_runs(client, records_url, now, site)
    for flow_run in orphaned:
        if (run := flow_run.run) is None:
            continue
        ended = f" at {run.ended_at:%Y-%m-%d %H:%M:%S} UTC" if run.ended_at else ""
        message = f"run {run.id} ended{ended}: {run.state}. Prefect did not receive it then."
        with open_records(records_url) as records:
            report = History(records).read_report(run.id)
        end_flow_run(client, flow_run.flow_run, report, message)
    return orphaned
