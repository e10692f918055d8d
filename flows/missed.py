"""Windows that have passed without a run: found by what Prefect was told to start, recorded and told once.

A run that begins late says itself that its window was missed (``windowed``). This is about runs that never begin:
Prefect cancelled them, no worker took them, or Prefect made none. The schedules and requests are those of the
deployments themselves, so nothing but Prefect's server and the records is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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

from flows.campaign import new_run_id
from flows.context import Caller
from flows.hearing import NO_ANSWER
from flows.paging import all_pages
from flows.replaced import spoken_of
from flows.request import PatchRequest
from flows.tags import FLEET, OURS
from flows.windowed import lane, not_begun
from flows.wiring import telling
from tasks.errors import FleetpatchError, RecordsError, RequestError
from tasks.model import RunReport, Window
from tasks.records.history import History
from tasks.records.occurrences import SqlOccurrences
from tasks.records.opening import open_records
from tasks.records.sql import SqlRecords
from tasks.rules.admission import Occurrence, Standing, last_moment
from tasks.rules.calendar.freezes import frozen
from tasks.rules.calendar.spoken import prefect_would
from tasks.rules.missed import FlowRunState, MissedWindow, ScheduledRun, missed_window
from tasks.rules.window import window as window_at
from tasks.seams.clock import Clock, SystemClock
from tasks.states import Occasion

PATCH_FLOW = "patch-fleet"
LOOK_BACK = timedelta(days=7)
"""How far back windows are looked at: a server may be off for a long weekend."""
_FAILED = frozenset({StateType.FAILED, StateType.CRASHED})


@dataclass(frozen=True, slots=True)
class _Due:
    """A window that a deployment should have had a run for, and the runs that Prefect made for it."""

    deployment: str
    request: PatchRequest
    window: Window
    runs: tuple[ScheduledRun, ...]

    @property
    def lane(self) -> str:
        return lane(self.request, self.deployment)

    @property
    def last_moment(self) -> datetime:
        return last_moment(self.window, self.request.reboot, self.request.reboot_reserve_minutes * 60)


def note_missed_windows(
    who: Caller, *, fleets: frozenset[str] | None = None, clock: Clock | None = None
) -> tuple[RunReport, ...]:
    """Record each window of the last days that no run had, and tell people of it. Raises nothing.

    Args:
        who: on whose behalf, with its records.
        fleets: tags of the fleets whose deployments are looked at; None: those of the present flow run's deployment.
        clock: tells the present.

    Returns:
        What was recorded now. What was recorded before is neither recorded nor told again.
    """
    now = (clock or SystemClock()).now()
    try:
        with get_client(sync_client=True) as client:
            mine = own_fleets() if fleets is None else fleets
            dues = [due for each in _deployments(client, mine) for due in _dues(client, each, now, who)]
        with open_records(who.records_url) as records:
            return tuple(_recorded(records, dues, who, now))
    except (*NO_ANSWER, FleetpatchError) as error:
        who.watch.said(f"could not look for missed windows: {type(error).__name__}: {error}")
        return ()


def own_fleets() -> frozenset[str]:
    """Return the tags of the fleets that the present flow run's deployment belongs to."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None:
        return frozenset()
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):  # it may be removed meanwhile
        return fleets_of(client.read_deployment(run.deployment_id).tags)
    return frozenset()


def fleets_of(tags: Sequence[str]) -> frozenset[str]:
    """Return those of some tags that name a fleet."""
    return frozenset(tag for tag in tags if tag.startswith(FLEET))


def _deployments(client: SyncPrefectClient, fleets: frozenset[str]) -> Iterator[DeploymentResponse]:
    """Give the deployments of patch runs that belong to one of some fleets, and are not paused."""
    if not fleets:
        return
    ours, flow = DeploymentFilterTags(all_=[OURS]), FlowFilter(name=FlowFilterName(any_=[PATCH_FLOW]))
    found = all_pages(
        lambda limit, offset: client.read_deployments(
            flow_filter=flow, deployment_filter=DeploymentFilter(tags=ours), limit=limit, offset=offset
        )
    )
    yield from (each for each in found if not each.paused and fleets_of(each.tags) & fleets)


def _dues(client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime, who: Caller) -> Iterator[_Due]:
    try:
        request = PatchRequest.model_validate(deployment.parameters.get("request"))
        freezes = [each.read(request.window.zone) for each in request.freezes]
    except (ValidationError, RequestError) as error:  # it can't be started either, and says so itself
        if deployment.schedules:  # that of the form asks for nothing by itself, and a window may have been its last
            who.watch.said(f"could not read what {deployment.name} asks for: {str(error).splitlines()[0]}")
        return
    if request.dry_run or request.download_only:
        return
    made: dict[datetime, list[FlowRun]] = {}
    for run in _runs(client, deployment, now):
        if run.auto_scheduled and run.expected_start_time is not None:
            made.setdefault(_plain(run.expected_start_time), []).append(run)
    for due in sorted({*made, *_dates(deployment, now)}):
        opens = due + timedelta(minutes=request.window.lead_minutes)
        window = window_at(opens, request.window.minutes, request.window.zone, now)
        if frozen(window, freezes) is None:
            yield _Due(deployment.name, request, window, tuple(map(_scheduled, made.get(due, ()))))


def _runs(client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime) -> Iterator[FlowRun]:
    span = FlowRunFilterExpectedStartTime.model_validate({"after_": now - LOOK_BACK, "before_": now})
    yield from all_pages(
        lambda limit, offset: client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
            flow_run_filter=FlowRunFilter(expected_start_time=span),
            limit=limit,
            offset=offset,
        )
    )


def _dates(deployment: DeploymentResponse, now: datetime) -> Iterator[datetime]:
    """Give the moments at which Prefect should have started runs since it was told of the schedules as they are."""
    for each in deployment.schedules:
        told = spoken_of(each.schedule)
        if not each.active or told is None or each.created is None:
            continue
        since = max(now - LOOK_BACK, _plain(each.created))
        try:
            yield from prefect_would(told, since, now)
        except (ValueError, TypeError):  # a rule that somebody wrote, and that can't be read: doctor tells of it
            continue


def _scheduled(run: FlowRun) -> ScheduledRun:
    state = run.state
    message = (state.message or "") if state is not None else ""
    kind = state.type if state is not None else StateType.SCHEDULED
    if kind in _FAILED:
        how = FlowRunState.FAILED
    elif run.run_count:  # its start time is no sign: Prefect sets one when a run ends that never began
        how = FlowRunState.BEGUN
    elif kind is StateType.CANCELLED:
        how = FlowRunState.LIMITED if "concurrency limit" in message.lower() else FlowRunState.CANCELLED
    else:
        how = FlowRunState.PENDING if kind is StateType.PENDING else FlowRunState.WAITING
    return ScheduledRun(str(run.id), run.name, how, message)


def _recorded(records: SqlRecords, dues: Sequence[_Due], who: Caller, now: datetime) -> Iterator[RunReport]:
    if not dues:
        return
    windows, history = SqlOccurrences(records.database), History(records)
    starts = [due.window.start for due in dues]
    known: Mapping[tuple[str, datetime], Occurrence] = {
        (each.configuration, each.starts_at): each
        for each in windows.between(min(starts), max(starts) + timedelta(seconds=1))
    }
    for due in dues:
        standing = known.get((due.lane, due.window.start))
        is_recorded = standing is None or standing.what is not Standing.RUN or _is_run(history, standing.run_id)
        missed = missed_window(due.window, due.last_moment, now, due.runs, standing, is_recorded=is_recorded)
        report = _noted(records, windows, due, missed, standing, now) if missed is not None else None
        if report is not None:
            who.watch.said(report.run.message)
            with telling(due.request, who) as tell:
                tell(Occasion.MISSED, report)
            yield report


def _is_run(history: History, run_id: str) -> bool:
    try:
        return history.run(run_id).id == run_id
    except RecordsError:
        return False


def _noted(
    records: SqlRecords,
    windows: SqlOccurrences,
    due: _Due,
    missed: MissedWindow,
    standing: Occurrence | None,
    now: datetime,
) -> RunReport | None:
    """Record a missed window; None when somebody else has recorded something about it meanwhile."""
    by = f"the schedule of {due.lane}"
    run = not_begun(due.request, due.window, new_run_id(now), missed.reason, now, by, missed.flow_run_id)
    mine = Occurrence(due.lane, due.window.start, Standing.MISSED, run.id, missed.reason, now)
    if windows.note(mine, instead_of=standing).run_id != run.id:
        return None
    records.save(run)
    return RunReport(run, ())


def _plain(moment: datetime) -> datetime:
    """Return a moment without Prefect's kind of datetime: sums with it lose their zone."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)
