"""Find windows that passed without a run, record them, and send one notification for each.

A run that begins late reports its missed window itself (``admit_run``). This module is for runs that never begin:
Prefect cancelled them, no worker started them, or Prefect did not create them. Schedules and requests come from the
deployments in Prefect, so only Prefect's server and the records are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from flows.admission import build_schedule_key
from flows.composition import open_run_notifier, require_readable_targets
from flows.engine.resume_state import find_recorded_run
from flows.engine.run_info import build_run_id, build_unstarted_run
from flows.ports.caller import Caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS, read_all_pages
from flows.prefect_api.deployment_changes import parse_prefect_schedule, to_utc_datetime
from flows.prefect_api.tags import FLEET_TAG_PREFIX, MANAGED_TAG, find_tagged_sites
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from inventory.machine import DEFAULT_SITE
from tasks.domain.errors import CredentialError, FleetpatchError, RequestError
from tasks.domain.model import RunInfo, RunReport, Window
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.states import NotificationOccasion, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.prefect_schedule import iterate_prefect_starts
from tasks.rules.timing.admission import (
    FlowRunState,
    MissedWindow,
    ScheduledRun,
    WindowClaim,
    compute_last_start,
    find_missed_window,
)
from tasks.rules.timing.maintenance_window import build_window

PATCH_FLOW_NAME = "patch-fleet"
LOOKBACK_PERIOD = timedelta(days=7)
"""How far back windows are checked: a server may be off for a long weekend."""
_FAILED_STATES = frozenset({StateType.FAILED, StateType.CRASHED})


@dataclass(frozen=True, slots=True)
class DueWindow:
    """A window that a deployment should have had a run for, with the flow runs that Prefect created for it."""

    deployment: str
    request: PatchRequest
    window: Window
    runs: tuple[ScheduledRun, ...]
    site: str = DEFAULT_SITE

    @property
    def schedule_key(self) -> str:
        """The key of its claim."""
        return build_schedule_key(self.request, self.deployment)

    @property
    def last_moment(self) -> datetime:
        """From when on nothing begins in it."""
        return compute_last_start(self.window, self.request.reboot, self.request.reboot_reserve_minutes * 60)


def record_missed_windows(
    caller: Caller, *, fleets: frozenset[str] | None = None, clock: Clock | None = None
) -> tuple[RunReport, ...]:
    """Record each window of the last days that had no run, and send a notification. Raises nothing.

    ``caller``: the caller, with the URL of the records.
    ``fleets``: the fleet tags of the deployments to check; None: those of the present flow run's deployment.

    Returns:
        The windows that were recorded now. A window that was recorded before is not recorded or notified again.
    """
    now = (clock or SystemClock()).now()
    try:
        with get_client(sync_client=True) as client:
            fleet_tags = read_own_fleet_tags() if fleets is None else fleets
            due_windows = [
                due
                for flow, deployment in (read_managed_deployments(client) if fleet_tags else ())
                if flow == PATCH_FLOW_NAME and not deployment.paused and filter_fleet_tags(deployment.tags) & fleet_tags
                for due in find_due_windows(client, deployment, now, caller)
            ]
        with open_records(caller.records_url) as records:
            return tuple(MissedWindowRecorder(records, caller, now).record_new(due_windows))
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


def read_managed_deployments(client: SyncPrefectClient) -> Iterator[tuple[str, DeploymentResponse]]:
    """Yield all deployments of fleetpatch, each with the name of its flow.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    managed, names = DeploymentFilter(tags=DeploymentFilterTags(all_=[MANAGED_TAG])), dict[UUID, str]()
    for page in read_all_pages(
        lambda limit, offset: client.read_deployments(deployment_filter=managed, limit=limit, offset=offset)
    ):
        if page.flow_id not in names:
            names[page.flow_id] = client.read_flow(page.flow_id).name
        yield names[page.flow_id], page


def find_due_windows(
    client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime, caller: Caller
) -> Iterator[DueWindow]:
    """Yield the windows of the last days that a patch deployment should have had a run for.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    try:
        request = PatchRequest.model_validate(deployment.parameters.get("request"))
        freezes = [freeze.to_freeze(request.window.zone) for freeze in request.freezes]
    except (ValidationError, RequestError) as error:  # it can't start either, and fails with this error
        if deployment.schedules:  # no schedule: an on-demand form, or its last window is over
            caller.listener.on_message(f"could not read what {deployment.name} asks for: {str(error).splitlines()[0]}")
        return
    if request.dry_run or request.download_only:
        return
    span = FlowRunFilterExpectedStartTime.model_validate({"after_": now - LOOKBACK_PERIOD, "before_": now})
    own = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    flow_runs = read_all_pages(
        lambda limit, offset: client.read_flow_runs(
            deployment_filter=own, flow_run_filter=FlowRunFilter(expected_start_time=span), limit=limit, offset=offset
        )
    )
    site = next(iter(find_tagged_sites(deployment.tags)), DEFAULT_SITE)
    scheduled_runs: dict[datetime, list[FlowRun]] = {}
    for run in flow_runs:
        if run.auto_scheduled and run.expected_start_time is not None:
            scheduled_runs.setdefault(to_utc_datetime(run.expected_start_time), []).append(run)
    for due in sorted({*scheduled_runs, *_find_due_dates(deployment, now)}):
        opens = due + timedelta(minutes=request.window.lead_minutes)
        window = build_window(opens, request.window.minutes, request.window.zone, now)
        if find_freeze(window, freezes) is None:
            runs = tuple(map(_to_scheduled_run, scheduled_runs.get(due, ())))
            yield DueWindow(deployment.name, request, window, runs, site)


def _find_due_dates(deployment: DeploymentResponse, now: datetime) -> Iterator[datetime]:
    """Yield the times at which Prefect should have started runs since the present schedules were created."""
    for schedule in deployment.schedules:
        prefect_schedule = parse_prefect_schedule(schedule.schedule)
        if not schedule.active or prefect_schedule is None or schedule.created is None:
            continue
        since = max(now - LOOKBACK_PERIOD, to_utc_datetime(schedule.created))
        try:
            yield from iterate_prefect_starts(prefect_schedule, since, now)
        except (ValueError, TypeError):  # a rule that can't be read; doctor reports it
            continue


def _to_scheduled_run(run: FlowRun) -> ScheduledRun:
    state = run.state
    message = (state.message or "") if state is not None else ""
    kind = state.type if state is not None else StateType.SCHEDULED
    if kind in _FAILED_STATES:
        run_state = FlowRunState.FAILED
    elif run.run_count:  # not the start time: Prefect also sets it when a run ends that never began
        run_state = FlowRunState.STARTED
    elif kind is StateType.CANCELLED:
        is_limit = "concurrency limit" in message.lower()
        run_state = FlowRunState.CANCELLED_BY_LIMIT if is_limit else FlowRunState.CANCELLED
    else:
        run_state = FlowRunState.PENDING if kind is StateType.PENDING else FlowRunState.WAITING
    return ScheduledRun(str(run.id), run.name, run_state, message)


class MissedWindowRecorder:
    """Records windows without a run, and notifies once for each: the record decides who does.

    Args:
        saves_runs: whether the records may get the run of a missed window. The pages may only record the window; then
            the next `reconcile-fleet` adds the run, and sends no second notification.

    Attributes:
        untold: missed windows that this process could notify nobody of, with the reason. They are not recorded: a
            process that can notify records them.
    """

    def __init__(self, records: SqlRecords, caller: Caller, now: datetime, *, saves_runs: bool = True) -> None:
        self._records, self._caller, self._now, self._saves_runs = records, caller, now, saves_runs
        self._claims = SqlWindowClaims(records.database)
        self.untold: list[str] = []

    def record_new(self, due_windows: Sequence[DueWindow]) -> Iterator[RunReport]:
        """Record the missed ones of these windows that are not recorded yet, and yield them.

        Raises:
            RecordsError: the records can't be read or written.
        """
        if not due_windows:
            return
        history, starts = History(self._records), [due.window.start for due in due_windows]
        claims: Mapping[tuple[str, datetime], WindowClaim] = {
            (claim.configuration, claim.starts_at): claim
            for claim in self._claims.find_claims_between(min(starts), max(starts) + timedelta(seconds=1))
        }
        for due in due_windows:
            claim = claims.get((due.schedule_key, due.window.start))
            is_recorded = claim is None or find_recorded_run(history, claim.run_id) is not None
            if claim is not None and claim.status is WindowStatus.MISSED and not is_recorded and self._saves_runs:
                self._records.save(self._build_run(due, claim.run_id, claim.reason, ""))  # the pages have told it
                continue
            missed = find_missed_window(
                due.window, due.last_moment, self._now, due.runs, claim, is_recorded=is_recorded
            )
            report = self._record(due, missed, claim) if missed is not None else None
            if report is not None:
                self._caller.listener.on_message(report.run.message)
                with open_run_notifier(due.request, self._caller) as tell:
                    tell(NotificationOccasion.MISSED, report)
                yield report

    def _record(self, due: DueWindow, missed: MissedWindow, claim: WindowClaim | None) -> RunReport | None:
        """Record a missed window. Return None if another process has, or is to do that."""
        if not self._saves_runs:
            if claim is not None:  # a process that died has it: reconcile-fleet decides
                return None
            try:
                require_readable_targets(due.request, {NotificationOccasion.MISSED})
            except CredentialError as error:
                self.untold.append(f"{missed.reason} Nobody was notified from here: {error.message}")
                return None
        run = self._build_run(due, build_run_id(self._now), missed.reason, missed.flow_run_id)
        mine = WindowClaim(due.schedule_key, due.window.start, WindowStatus.MISSED, run.id, missed.reason, self._now)
        if self._claims.record_window_without_run(mine, instead_of=claim).run_id != run.id:
            return None
        if self._saves_runs:
            self._records.save(run)
        return RunReport(run, ())

    def _build_run(self, due: DueWindow, run_id: str, reason: str, flow_run_id: str) -> RunInfo:
        by = f"the schedule of {due.schedule_key}"
        return build_unstarted_run(
            due.request, due.window, run_id, WindowStatus.MISSED, reason, self._now, by, flow_run_id, due.site
        )
