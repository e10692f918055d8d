"""Admission: decide whether a flow run may begin now, and in which window. patch_fleet calls it first."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from flows.composition import open_run_notifier
from flows.engine.pinned_updates import limit_rollout_run
from flows.engine.retrying_records import retry_while_unavailable
from flows.engine.run_info import build_run_id, build_unstarted_run, is_rollout_run
from flows.holding.window_check import HoldCheck, check_hold
from flows.policy.enforcement import build_starter, enforce_policy
from flows.policy.fleet_freezes import has_fleet_freezes
from flows.policy.policy_file import load_policy_if_deployed
from flows.ports.caller import Caller, find_starter_name
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from inventory.loader import find_inventory, load_inventory
from inventory.machine import Machine
from inventory.sites import find_site
from tasks.domain.errors import Frozen, PolicyRefused
from tasks.domain.model import RunInfo, RunReport
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.domain.states import NotificationOccasion, WindowStatus
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.policy.decision import DeployedPolicy
from tasks.rules.runs.approval import UNKNOWN_STARTER
from tasks.rules.timing.admission import AdmissionRefusal, WindowClaim, check_admission, compute_last_start

T = TypeVar("T")

DOWNLOAD_SUFFIX = " (download)"
"""Separates windows of a configuration's downloads from windows of its patch runs. No configuration has such a name."""


@dataclass(frozen=True, slots=True)
class AdmittedRun:
    """The decision that a run may begin: its request with the window's start, its id, and the schedule that started it.

    ``started_by`` is "" if no schedule started the run.
    """

    request: PatchRequest
    run_id: str
    started_by: str = ""


@dataclass(frozen=True, slots=True)
class RefusedRun:
    """The decision that a run may not begin. The report has the reason and no machines."""

    refusal: AdmissionRefusal
    report: RunReport

    @property
    def occasion(self) -> NotificationOccasion:
        """The event that is notified. A window that another run has claimed is a missed window for this run."""
        is_missed = self.refusal.status in {WindowStatus.MISSED, WindowStatus.CLAIMED}
        return NotificationOccasion.MISSED if is_missed else NotificationOccasion.CANCELLED


def build_schedule_key(request: PatchRequest, deployment: str) -> str:
    """Return the key of a deployment's window claims: its configuration, or one zone's part of it.

    A configuration whose windows open by each machine's local time has one deployment for each zone, named
    ``configuration@zone``. Two zones may open their windows at the same time, for different machines. A run that only
    downloads has its own windows: it may start at the time at which another window of its configuration opens.
    """
    name = request.configuration
    whose = deployment if not name or deployment.startswith(f"{name}@") else name
    return f"{whose}{DOWNLOAD_SUFFIX}" if request.download_only else whose


def admit_run(
    request: PatchRequest, caller: Caller, origin: FlowRunOrigin, clock: Clock | None = None
) -> AdmittedRun | RefusedRun:
    """Decide whether a run may begin now, and record its window.

    If a schedule started the run, the window opens at the scheduled time plus the request's lead, never at the present
    time. Such a window belongs to one run of its configuration. The claim is recorded, and so is the reason if a window
    has no run. If a person started the run, its window opens at the requested start time, even if it waited for a
    worker. A run of automatic patching begins while something fits into its window, and is refused later.
    It does without machines that were paused meanwhile, and is refused if its rollout is faulted or cancelled.
    Of a configuration whose updates are held, a run that the schedule started does without them until their time.

    Raises:
        InventoryError: the policy is not usable, or the inventory where a rule, a role or automatic patching needs it.
        RequestError: the window or a freeze is not valid, or the run of a configuration has no window.
        RecordsError: the records can't be read, so nothing may begin.
    """
    clock = clock or SystemClock()
    now = clock.now()
    opens = _find_window_start(request, origin)
    if opens is not None:
        request = request.model_copy(update={"window": request.window.model_copy(update={"start": opens})})
    if request.dry_run or request.shard:  # that of a shard is admitted with the whole run
        return AdmittedRun(request, request.shard or caller.run_id or build_run_id(now))
    # A run of automatic patching that comes too late has nothing to report: its machines get the next window.
    has_start_time = opens is not None or is_rollout_run(request)
    return _AdmissionCheck(request, caller, origin, clock, has_start_time=has_start_time).decide(now)


def _find_window_start(request: PatchRequest, origin: FlowRunOrigin) -> datetime | None:
    """Return when the window opens if the start of the flow run decides it; None if the request decides it.

    Raises:
        RequestError: a run of a configuration was started without a window.
    """
    if origin.scheduled_for is not None:
        return origin.scheduled_for + timedelta(minutes=request.window.lead_minutes)
    if not origin.has_chosen_start:
        request.require_window()
    return origin.requested_start if request.window.start is None else None


def _describe_schedule(request: PatchRequest, origin: FlowRunOrigin, schedule_key: str) -> str:
    """Return the schedule that started a run; "" if none did.

    Everybody who can use Prefect can add a schedule. If its deployment does not belong to the request's configuration,
    it does not tell who started the run.
    """
    if origin.scheduled_for is None:
        return ""
    configuration = request.configuration
    if configuration and (origin.deployment == configuration or origin.deployment.startswith(f"{configuration}@")):
        return f"the schedule of {schedule_key}"
    return f"{UNKNOWN_STARTER} (a schedule of {origin.deployment})"


class _AdmissionCheck:
    """The admission check of one run."""

    def __init__(
        self, request: PatchRequest, caller: Caller, origin: FlowRunOrigin, clock: Clock, *, has_start_time: bool
    ) -> None:
        self._request, self._caller, self._origin, self._clock = request, caller, origin, clock
        self._has_start_time = has_start_time  # the run has a start time, so a late start matters
        self._run_id = caller.run_id or build_run_id(clock.now())
        self._schedule_key = build_schedule_key(request, origin.deployment)
        self._window = request.window.to_window(clock.now())
        self._started_by = _describe_schedule(request, origin, self._schedule_key)

    def decide(self, now: datetime) -> AdmittedRun | RefusedRun:
        refusal = self._check_window(now) or self._check_policy(now) or self._check_hold(now)
        if refusal is None and is_rollout_run(self._request):
            refusal = self._retry_within_window(lambda: self._limit_rollout_run(now))
        if refusal is None and self._origin.scheduled_for is None:
            return AdmittedRun(self._request, self._run_id)
        with open_records(self._caller.records_url) as records:
            if refusal is None:
                claim = self._retry_within_window(lambda: self._claim_window(records))
                if isinstance(claim, AdmissionRefusal):
                    refusal = claim
                else:
                    refusal = self._check_window(self._clock.now(), claim)
                    if refusal is None:
                        return AdmittedRun(self._request, claim.run_id, self._started_by)
            by, now = self._started_by or find_starter_name(self._caller), self._clock.now()
            flow_run_id, site = self._origin.flow_run_id, find_site()
            run = build_unstarted_run(
                self._request, self._window, self._run_id, refusal.status, refusal.reason, now, by, flow_run_id, site
            )
            is_news = self._retry_within_window(lambda: self._record_refusal(records, refusal, run))
        self._caller.listener.on_message(refusal.reason)
        refused = RefusedRun(refusal, RunReport(run, ()))
        if is_news:
            with open_run_notifier(self._request, self._caller) as tell:
                tell(refused.occasion, refused.report)
        return refused

    def _check_window(self, now: datetime, claim: WindowClaim | None = None) -> AdmissionRefusal | None:
        request = self._request
        return check_admission(
            self._window,
            now,
            [freeze.to_freeze(request.window.zone) for freeze in request.freezes if not request.override_freeze],
            scheduled=self._has_start_time,
            policy=request.reboot,
            reserve_seconds=request.reboot_reserve_minutes * 60,
            claim=claim,
            claimant=self._origin.flow_run_id,
        )

    def _check_policy(self, now: datetime) -> AdmissionRefusal | None:
        """Say early that the policy forbids the run, and record it. The engine asks the policy again when it begins."""

        def read_deployed() -> Sequence[DeployedPolicy]:
            with open_records(self._caller.records_url) as records:
                return read_deployed_policies(SqlAuditLog(records.database))

        deployed = self._retry_within_window(read_deployed)
        try:
            policy = load_policy_if_deployed(now, deployed)
        except PolicyRefused as refused:
            return AdmissionRefusal(WindowStatus.CANCELLED, refused.message)
        if not policy.rules and not self._caller.scope and not has_fleet_freezes(now.date()):
            return None
        starter = build_starter(self._started_by or find_starter_name(self._caller), self._caller.scope)
        inventory = load_inventory(find_inventory(self._request.inventory))
        try:
            enforce_policy(self._request, inventory, starter, now, window=self._window, read_policy=lambda: policy)
        except Frozen as frozen:
            return AdmissionRefusal(WindowStatus.FROZEN, frozen.message)
        except PolicyRefused as refused:
            return AdmissionRefusal(WindowStatus.CANCELLED, refused.message)
        return None

    def _check_hold(self, now: datetime) -> AdmissionRefusal | None:
        """Take what is held out of a run that its schedule started, or refuse the run if that is all of it."""
        if self._origin.scheduled_for is None or self._request.maintenance is None:
            return None

        def check() -> HoldCheck:
            with open_records(self._caller.records_url) as records:
                return check_hold(records.database, self._request, self._window.start, now)

        checked = self._retry_within_window(check)
        self._request = checked.request
        return AdmissionRefusal(WindowStatus.HELD, checked.refusal) if checked.refusal else None

    def _limit_rollout_run(self, now: datetime) -> AdmissionRefusal | None:
        """Take machines out that were paused while the run waited for a worker, or refuse the run."""

        def read_machines() -> Sequence[Machine]:
            return load_inventory(find_inventory(self._request.inventory)).machines

        with open_records(self._caller.records_url) as records:
            self._request, reason = limit_rollout_run(records.database, self._request, read_machines, now)
        return AdmissionRefusal(WindowStatus.CANCELLED, reason) if reason else None

    def _claim_window(self, records: SqlRecords) -> WindowClaim | AdmissionRefusal:
        """Claim the window, unless the run comes from an outdated version of its deployment."""
        reason = self._origin.read_outdated_reason(self._caller.listener.on_message)
        if reason:
            return AdmissionRefusal(
                WindowStatus.REPLACED, f"the run was scheduled before a change and does not begin: {reason}"
            )
        return SqlWindowClaims(records.database).claim_window(
            self._schedule_key, self._window.start, self._run_id, self._origin.flow_run_id, self._clock.now()
        )

    def _record_refusal(self, records: SqlRecords, refusal: AdmissionRefusal, run: RunInfo) -> bool:
        """Record the refusal. Return whether it is new: only one notification is sent for a window."""
        records.save(run)
        if self._origin.scheduled_for is None or refusal.status in {WindowStatus.CLAIMED, WindowStatus.REPLACED}:
            return True
        own_claim = WindowClaim(
            self._schedule_key, self._window.start, refusal.status, run.id, refusal.reason, self._clock.now()
        )
        stands = SqlWindowClaims(records.database).record_window_without_run(own_claim)
        if refusal.status is WindowStatus.HELD:  # people were told once that it is held, and until when
            return False
        return stands.run_id == run.id or stands.status is not refusal.status

    def _retry_within_window(self, call: Callable[[], T]) -> T:
        """Call the records, and wait while they are unavailable, as long as something may still begin in the window."""
        request = self._request
        last = compute_last_start(self._window, request.reboot, request.reboot_reserve_minutes * 60)
        return retry_while_unavailable(call, self._clock, last, self._caller.listener.on_message)
