"""The window is law: may this flow run begin, and in which window? Asked first thing by patch_fleet."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment

from flows.campaign import new_run_id
from flows.context import Caller
from flows.replaced import why_replaced
from flows.request import PatchRequest
from flows.wiring import telling, whoami
from tasks.errors import RecordsUnavailable, RequestError
from tasks.model import RunInfo, RunReport, Window
from tasks.records.occurrences import SqlOccurrences
from tasks.records.opening import open_records
from tasks.records.sql import SqlRecords
from tasks.rules.admission import Occurrence, Refusal, Standing, admit, last_moment
from tasks.rules.window import window as window_at
from tasks.seams.clock import Clock, SystemClock
from tasks.states import Occasion, OperationState

T = TypeVar("T")

PAUSE_SECONDS = 2.0
DOWNLOADS = " (download)"
"""Tells the windows of a configuration's downloads from those of its patch runs. No configuration has such a name."""
CHOSEN = timedelta(seconds=60)
"""A run that is to start so long after it was asked for, somebody has scheduled. Whose clock said "now" may differ."""
AT_LEAST = timedelta(seconds=60)
"""How long records that are away are waited for when the window is over: a missed window is worth recording."""


@dataclass(frozen=True, slots=True)
class FlowStart:
    """How a flow run came to be.

    Attributes:
        flow_run_id: Prefect's id; "" outside of a flow run.
        scheduled_for: the moment that its schedule named, whenever it really started; None when a person, or another
            flow, started it.
        deployment: its name; "" without one.
        asked_for: the moment at which a run of a deployment that no schedule made was to start, however long it waited
            for a worker; None: it began when it was called.
        is_timed: whether somebody chose that moment; otherwise it is when they asked.
        replaced: given whom to tell, says why a run that a schedule made is not what its deployment asks for now; ""
            when it is.
    """

    flow_run_id: str = ""
    scheduled_for: datetime | None = None
    deployment: str = ""
    asked_for: datetime | None = None
    is_timed: bool = False
    replaced: Callable[[Callable[[str], None]], str] = field(default=lambda _say: "", compare=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run may begin: as asked, with its window's start written down, under this id, in the name of its schedule.

    ``by`` is "" of a run that no schedule started.
    """

    request: PatchRequest
    run_id: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The run may not begin; its report has no machines in it, and says why."""

    refusal: Refusal
    report: RunReport

    @property
    def occasion(self) -> Occasion:
        """What people are told of. A window that another run has is missed by this one."""
        return Occasion.MISSED if self.refusal.what in {Standing.MISSED, Standing.RUN} else Occasion.CANCELLED


def flow_start() -> FlowStart:
    """Return how the present flow run came to be.

    Raises:
        RequestError: a person started it from a deployment that is there no more.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None:
        return FlowStart()
    due = _plain(run.expected_start_time) if run.expected_start_time is not None else None
    if run.auto_scheduled:
        return FlowStart(str(run.id), due, _deployment_name() or "", replaced=functools.partial(why_replaced, run))
    if run.deployment_id is None:
        return FlowStart(flow_run_id=str(run.id))
    name = _deployment_name()
    if name is None:
        hint = "Deploy its configuration again, and start a run of that."
        raise RequestError("the deployment of this flow run was removed before it began", hint=hint)
    return FlowStart(
        flow_run_id=str(run.id),
        deployment=name,
        asked_for=due,
        is_timed=due is not None and run.created is not None and due >= _plain(run.created) + CHOSEN,
    )


def _deployment_name() -> str | None:
    """Return the name of the flow run's deployment; None when that was removed."""
    try:
        return str(deployment.get_name() or "")
    except ObjectNotFound:
        return None


def _plain(moment: datetime) -> datetime:
    """Return a moment without Prefect's kind of datetime: sums with it lose their zone."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def lane(request: PatchRequest, deployment: str) -> str:
    """Return whose windows those of a deployment are: its configuration's, or one zone's part of it.

    A configuration whose windows open by each machine's own clock has a deployment for each zone, named
    ``configuration@zone``. Two zones may open theirs at the same moment, for different machines. A run that only
    downloads has windows of its own: it may start at the moment at which another window of its configuration opens.
    """
    name = request.configuration
    whose = deployment if not name or deployment.startswith(f"{name}@") else name
    return f"{whose}{DOWNLOADS}" if request.download_only else whose


def windowed(request: PatchRequest, who: Caller, start: FlowStart, clock: Clock | None = None) -> Admitted | Refused:
    """Say whether a run may begin now, and write its window down.

    The window of a run that a schedule started opens at the scheduled time and the request's lead, never from now.
    Such a window belongs to one run of its configuration; that is recorded, and so is why a window has no run. A run
    that a person asked for opens its window when it was to start, however long it waited for a worker.

    Args:
        request: what is asked for.
        who: on whose behalf, with its records.
        start: how the flow run came to be.
        clock: tells the present moment.

    Raises:
        RequestError: the window or a freeze makes no sense, or the run of a configuration has no window of its own.
        RecordsError: the records can't be asked, so nothing may begin.
    """
    clock = clock or SystemClock()
    now = clock.now()
    opens = _opens(request, start)
    if opens is not None:
        request = request.model_copy(update={"window": request.window.model_copy(update={"start": opens})})
    run_id = who.run_id or new_run_id(now)
    if request.dry_run:
        return Admitted(request, run_id)
    return _Admission(request, who, start, clock, run_id, has_moment=opens is not None).decided(now)


def _opens(request: PatchRequest, start: FlowStart) -> datetime | None:
    """Return when the window opens by how the run was started; None: as the request says.

    Raises:
        RequestError: a run of a configuration was started without a window.
    """
    if start.scheduled_for is not None:
        return start.scheduled_for + timedelta(minutes=request.window.lead_minutes)
    if not start.is_timed:
        request.require_window()
    return start.asked_for if request.window.start is None else None


def not_begun(
    request: PatchRequest, window: Window, run_id: str, reason: str, now: datetime, by: str, flow_run_id: str
) -> RunInfo:
    """Return the record of a run that did not begin, with the reason, the moment, who wanted it, and Prefect's id."""
    return RunInfo(
        id=run_id,
        kind="patch",
        started_at=now,
        state=OperationState.NOT_STARTED,
        request=request.model_dump(mode="json"),
        window=window,
        scope=request.scope,
        ended_at=now,
        started_by=by,
        flow_run_id=flow_run_id,
        message=reason,
    )


class _Admission:
    """One run at the door."""

    def __init__(
        self, request: PatchRequest, who: Caller, start: FlowStart, clock: Clock, run_id: str, *, has_moment: bool
    ) -> None:
        self._request = request
        self._has_moment = has_moment  # at which it was to start, so that being late matters
        self._who = who
        self._start = start
        self._clock = clock
        self._run_id = run_id
        self._configuration = lane(request, start.deployment)
        self._window = self._asked_for(clock.now())
        self._by = f"the schedule of {self._configuration}" if start.scheduled_for is not None else ""

    def decided(self, now: datetime) -> Admitted | Refused:
        refusal = self._judged(now)
        if refusal is None and self._start.scheduled_for is None:
            return Admitted(self._request, self._run_id)
        with open_records(self._who.records_url) as records:
            if refusal is None:
                standing = self._patiently(lambda: self._claimed(records))
                if isinstance(standing, Refusal):
                    refusal = standing
                else:
                    refusal = self._judged(self._clock.now(), standing)
                    if refusal is None:
                        return Admitted(self._request, standing.run_id, self._by)
            report = self._report(refusal)
            news = self._patiently(lambda: self._noted(records, refusal, report.run))
        self._who.watch.said(refusal.reason)
        refused = Refused(refusal, report)
        if news:
            with telling(self._request, self._who) as tell:
                tell(refused.occasion, report)
        return refused

    def _asked_for(self, now: datetime) -> Window:
        asked = self._request.window
        return window_at(asked.start, asked.minutes, asked.zone, now)

    def _judged(self, now: datetime, standing: Occurrence | None = None) -> Refusal | None:
        request = self._request
        return admit(
            self._window,
            now,
            [each.read(request.window.zone) for each in request.freezes],
            scheduled=self._has_moment,
            policy=request.reboot,
            reserve_seconds=request.reboot_reserve_minutes * 60,
            standing=standing,
            claimant=self._start.flow_run_id,
        )

    def _claimed(self, records: SqlRecords) -> Occurrence | Refusal:
        """Claim the window, unless the run was made from what is asked no more."""
        why = self._start.replaced(self._who.watch.said)
        if why:
            return Refusal(
                Standing.REPLACED, f"the run was made before something was changed, and does not begin: {why}"
            )
        return SqlOccurrences(records.database).claim(
            self._configuration, self._window.start, self._run_id, self._start.flow_run_id, self._clock.now()
        )

    def _noted(self, records: SqlRecords, refusal: Refusal, run: RunInfo) -> bool:
        """Record the refusal, and return whether it is news: people hear of a window once."""
        records.save(run)
        if self._start.scheduled_for is None or refusal.what in {Standing.RUN, Standing.REPLACED}:
            return True
        mine = Occurrence(
            self._configuration, self._window.start, refusal.what, run.id, refusal.reason, self._clock.now()
        )
        stands = SqlOccurrences(records.database).note(mine)
        return stands.run_id == run.id or stands.what is not refusal.what

    def _report(self, refusal: Refusal) -> RunReport:
        by, flow_run_id = self._by or whoami(self._who), self._start.flow_run_id
        run = not_begun(self._request, self._window, self._run_id, refusal.reason, self._clock.now(), by, flow_run_id)
        return RunReport(run, ())

    def _patiently(self, call: Callable[[], T]) -> T:
        """Wait for records that are away, as long as the window may still hold something."""
        request = self._request
        last = last_moment(self._window, request.reboot, request.reboot_reserve_minutes * 60)
        return patiently(call, self._who, self._clock, max(last, self._clock.now() + AT_LEAST))


def patiently(call: Callable[[], T], who: Caller, clock: Clock, until: datetime) -> T:
    """Ask the records something, again and again while they are away, until that moment.

    Raises:
        RecordsUnavailable: they are away still.
    """
    while True:
        try:
            return call()
        except RecordsUnavailable as error:
            if clock.now() >= until:
                raise
            who.watch.said(f"holding: the records are away ({error.message})")
            clock.sleep(PAUSE_SECONDS)
