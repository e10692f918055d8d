"""Find windows that passed without a run, record them, and send one notification for each.

A run that begins late reports its missed window itself (``admit_run``). This module is for runs that never begin:
Prefect cancelled them, no worker started them, or Prefect did not create them. Schedules and requests come from the
deployments in Prefect, so only Prefect's server and the records are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from flows.admission import build_schedule_key
from flows.composition import open_run_notifier
from flows.engine.run_info import build_run_id, build_unstarted_run
from flows.ports.caller import Caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from flows.prefect_api.deployment_changes import parse_prefect_schedule, to_utc_datetime
from flows.prefect_api.pagination import read_all_pages
from flows.prefect_api.tags import FLEET_TAG_PREFIX, MANAGED_TAG
from flows.request.patch_request import PatchRequest
from tasks.errors import FleetpatchError, RecordsError, RequestError
from tasks.model import RunReport, Window
from tasks.protocols.clock import Clock, SystemClock
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.prefect_schedule import iterate_prefect_starts
from tasks.rules.timing.admission import WindowClaim, WindowStatus, compute_last_start
from tasks.rules.timing.maintenance_window import build_window as window_at
from tasks.rules.timing.missed_windows import FlowRunState, MissedWindow, ScheduledRun, find_missed_window
from tasks.states import NotificationEvent

PATCH_FLOW_NAME = "patch-fleet"
LOOKBACK_PERIOD = timedelta(days=7)
"""How far back windows are checked: a server may be off for a long weekend."""
_FAILED_STATES = frozenset({StateType.FAILED, StateType.CRASHED})


@dataclass(frozen=True, slots=True)
class _DueWindow:
    """A window that a deployment should have had a run for, with the flow runs that Prefect created for it."""

    deployment: str
    request: PatchRequest
    window: Window
    runs: tuple[ScheduledRun, ...]

    @property
    def schedule_key(self) -> str:
        return build_schedule_key(self.request, self.deployment)

    @property
    def last_moment(self) -> datetime:
        return compute_last_start(self.window, self.request.reboot, self.request.reboot_reserve_minutes * 60)


def record_missed_windows(
    caller: Caller, *, fleets: frozenset[str] | None = None, clock: Clock | None = None
) -> tuple[RunReport, ...]:
    """Record each window of the last days that had no run, and send a notification. Raises nothing.

    Args:
        caller: the caller, with the URL of the records.
        fleets: the fleet tags of the deployments to check; None: those of the present flow run's deployment.
        clock: the clock.

    Returns:
        The windows that were recorded now. A window that was recorded before is not recorded or notified again.
    """
    now = (clock or SystemClock()).now()
    try:
        with get_client(sync_client=True) as client:
            fleet_tags = read_own_fleet_tags() if fleets is None else fleets
            due_windows = [
                due
                for each in _read_patch_deployments(client, fleet_tags)
                for due in _find_due_windows(client, each, now, caller)
            ]
        with open_records(caller.records_url) as records:
            return tuple(_record_new_missed_windows(records, due_windows, caller, now))
    except (*NO_ANSWER_ERRORS, FleetpatchError) as error:
        caller.listener.on_message(f"could not look for missed windows: {type(error).__name__}: {error}")
        return ()


def read_own_fleet_tags() -> frozenset[str]:
    """Return the fleet tags of the present flow run's deployment."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None:
        return frozenset()
    # The deployment may have been deleted in the meantime.
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        return filter_fleet_tags(client.read_deployment(run.deployment_id).tags)
    return frozenset()


def filter_fleet_tags(tags: Sequence[str]) -> frozenset[str]:
    """Return the tags that name a fleet."""
    return frozenset(tag for tag in tags if tag.startswith(FLEET_TAG_PREFIX))


def _read_patch_deployments(client: SyncPrefectClient, fleets: frozenset[str]) -> Iterator[DeploymentResponse]:
    """Yield the patch deployments that belong to one of the fleets and are not paused."""
    if not fleets:
        return
    ours, flow = DeploymentFilterTags(all_=[MANAGED_TAG]), FlowFilter(name=FlowFilterName(any_=[PATCH_FLOW_NAME]))
    found = read_all_pages(
        lambda limit, offset: client.read_deployments(
            flow_filter=flow, deployment_filter=DeploymentFilter(tags=ours), limit=limit, offset=offset
        )
    )
    yield from (each for each in found if not each.paused and filter_fleet_tags(each.tags) & fleets)


def _find_due_windows(
    client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime, caller: Caller
) -> Iterator[_DueWindow]:
    try:
        request = PatchRequest.model_validate(deployment.parameters.get("request"))
        freezes = [each.to_freeze(request.window.zone) for each in request.freezes]
    except (ValidationError, RequestError) as error:  # it can't start either, and fails with this error
        if deployment.schedules:  # no schedule: an on-demand form, or its last window is over
            caller.listener.on_message(f"could not read what {deployment.name} asks for: {str(error).splitlines()[0]}")
        return
    if request.dry_run or request.download_only:
        return
    made: dict[datetime, list[FlowRun]] = {}
    for run in _read_flow_runs(client, deployment, now):
        if run.auto_scheduled and run.expected_start_time is not None:
            made.setdefault(to_utc_datetime(run.expected_start_time), []).append(run)
    for due in sorted({*made, *_find_due_dates(deployment, now)}):
        opens = due + timedelta(minutes=request.window.lead_minutes)
        window = window_at(opens, request.window.minutes, request.window.zone, now)
        if find_freeze(window, freezes) is None:
            yield _DueWindow(deployment.name, request, window, tuple(map(_to_scheduled_run, made.get(due, ()))))


def _read_flow_runs(client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime) -> Iterator[FlowRun]:
    span = FlowRunFilterExpectedStartTime.model_validate({"after_": now - LOOKBACK_PERIOD, "before_": now})
    yield from read_all_pages(
        lambda limit, offset: client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
            flow_run_filter=FlowRunFilter(expected_start_time=span),
            limit=limit,
            offset=offset,
        )
    )


def _find_due_dates(deployment: DeploymentResponse, now: datetime) -> Iterator[datetime]:
    """Yield the times at which Prefect should have started runs since the present schedules were created."""
    for each in deployment.schedules:
        prefect_schedule = parse_prefect_schedule(each.schedule)
        if not each.active or prefect_schedule is None or each.created is None:
            continue
        since = max(now - LOOKBACK_PERIOD, to_utc_datetime(each.created))
        try:
            yield from iterate_prefect_starts(prefect_schedule, since, now)
        except (ValueError, TypeError):  # a rule that can't be read; doctor reports it
            continue


def _to_scheduled_run(run: FlowRun) -> ScheduledRun:
    state = run.state
    message = (state.message or "") if state is not None else ""
    kind = state.type if state is not None else StateType.SCHEDULED
    if kind in _FAILED_STATES:
        how = FlowRunState.FAILED
    elif run.run_count:  # not the start time: Prefect also sets it when a run ends that never began
        how = FlowRunState.STARTED
    elif kind is StateType.CANCELLED:
        how = FlowRunState.CANCELLED_BY_LIMIT if "concurrency limit" in message.lower() else FlowRunState.CANCELLED
    else:
        how = FlowRunState.PENDING if kind is StateType.PENDING else FlowRunState.WAITING
    return ScheduledRun(str(run.id), run.name, how, message)


def _record_new_missed_windows(
    records: SqlRecords, due_windows: Sequence[_DueWindow], caller: Caller, now: datetime
) -> Iterator[RunReport]:
    if not due_windows:
        return
    windows, history = SqlWindowClaims(records.database), History(records)
    starts = [due.window.start for due in due_windows]
    known: Mapping[tuple[str, datetime], WindowClaim] = {
        (each.configuration, each.starts_at): each
        for each in windows.find_claims_between(min(starts), max(starts) + timedelta(seconds=1))
    }
    for due in due_windows:
        claim = known.get((due.schedule_key, due.window.start))
        is_recorded = (
            claim is None or claim.status is not WindowStatus.CLAIMED or _is_recorded_run(history, claim.run_id)
        )
        missed = find_missed_window(due.window, due.last_moment, now, due.runs, claim, is_recorded=is_recorded)
        report = _record_missed_window(records, windows, due, missed, claim, now) if missed is not None else None
        if report is not None:
            caller.listener.on_message(report.run.message)
            with open_run_notifier(due.request, caller) as tell:
                tell(NotificationEvent.MISSED, report)
            yield report


def _is_recorded_run(history: History, run_id: str) -> bool:
    try:
        return history.find_run(run_id).id == run_id
    except RecordsError:
        return False


def _record_missed_window(
    records: SqlRecords,
    windows: SqlWindowClaims,
    due_window: _DueWindow,
    missed: MissedWindow,
    claim: WindowClaim | None,
    now: datetime,
) -> RunReport | None:
    """Record a missed window. Return None if another process has recorded this window in the meantime."""
    by = f"the schedule of {due_window.schedule_key}"
    run = build_unstarted_run(
        due_window.request, due_window.window, build_run_id(now), missed.reason, now, by, missed.flow_run_id
    )
    mine = WindowClaim(
        due_window.schedule_key, due_window.window.start, WindowStatus.MISSED, run.id, missed.reason, now
    )
    if windows.record_window_without_run(mine, instead_of=claim).run_id != run.id:
        return None
    records.save(run)
    return RunReport(run, ())
