"""Decides whether a run may begin in its window and patch a machine, and finds windows that no run used. Pure.

Azure's orchestration modes, and the values of ``owner`` in an inventory:

=========================  ==============================  =========================  =============================
Azure                      ``owner``                       a configuration's run      a run of no configuration
=========================  ==============================  =========================  =============================
customer managed schedule  ``fleetpatch``, ``schedules``   allowed                    allowed: a person's
managed-safe               ``managed``                     prerequisites not met      allowed: fleetpatch's own time
automatic by OS            ``os``                          prerequisites not met      no: the system patches itself
manual, image default      ``manual``                      prerequisites not met      no: people do
=========================  ==============================  =========================  =============================

Azure's own rule (patch mode orchestrated, bypassPlatformSafetyChecksOnUserSchedule, schedule): Y,T,Y runs the
schedule; Y,T,N does nothing; Y,F,Y is the error "prerequisites not met"; Y,F,N: the platform patches; N,*,Y is the
error; N,*,N does nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from inventory.data_class import dataclass
from inventory.machine import Machine, PatchOwner
from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy, WindowStatus
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import format_date_and_time, format_duration, format_time_with_zone
from tasks.rules.timing.maintenance_window import compute_cut_off, describe_cut_off, describe_window


@dataclass(frozen=True, slots=True)
class WindowClaim:
    """The record of one window of a configuration: the run that has it, or why no run has it."""

    configuration: str
    starts_at: datetime  # when the window opens, or would have opened
    status: WindowStatus
    run_id: str  # id of the run that has the window, or that was refused
    reason: str  # why no run has the window; for a claimed window: the claimant (the id of its flow run)
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class AdmissionRefusal:
    """Why a run may not begin. With ``WindowStatus.CLAIMED``, another run has its window."""

    status: WindowStatus
    reason: str


def check_admission(
    window: Window,
    now: datetime,
    freezes: Sequence[Freeze],
    *,
    scheduled: bool,
    policy: RebootPolicy,
    reserve_seconds: float,
    claim: WindowClaim | None = None,
    claimant: str = "",
) -> AdmissionRefusal | None:
    """Return why a run may not begin, or None when it may. A freeze has priority over all other reasons.

    A late start, and a second run of the same window, only matter for a run with a ``scheduled`` start. If a person
    gives a window that is over, the outcome of each machine says that no time is left. The reboot ``policy`` decides
    whether there is a reboot reserve. ``claim`` is the record of this window; None when the records were not read yet.
    ``claimant`` is the id that wants the window, see ``WindowClaim.reason``.
    """
    freeze = find_freeze(window, freezes)
    if freeze is not None:
        return AdmissionRefusal(WindowStatus.FROZEN, describe_freeze(freeze, window))
    if not scheduled:
        return None
    last_start = compute_last_start(window, policy, reserve_seconds)
    if now >= last_start:
        late = (now - last_start).total_seconds()
        ago = f"{format_duration(late)} after" if late >= 1 else "which is"
        cut_off_text = f" ({describe_cut_off(window, policy, reserve_seconds)})" if last_start < window.end else ""
        reason = (
            f"window missed: it was {describe_window(window)}; "
            f"the run started at {format_date_and_time(now, window.zone)}, "
            f"{ago} the last moment to begin anything, {format_time_with_zone(last_start, window.zone)}{cut_off_text}"
        )
        return AdmissionRefusal(WindowStatus.MISSED, reason)
    if claim is not None and claim.status is WindowStatus.CANCELLED:
        reason = f"the window {describe_window(window)} was cancelled: {claim.reason}"
        return AdmissionRefusal(WindowStatus.CANCELLED, reason)
    if claim is not None and claim.status is WindowStatus.CLAIMED and not (claimant and claim.reason == claimant):
        reason = f"the window {describe_window(window)} of {claim.configuration} belongs to run {claim.run_id}"
        return AdmissionRefusal(WindowStatus.CLAIMED, reason)
    return None


def compute_last_start(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the time from which nothing begins: the cut-off, or the end if the reserve is the whole window."""
    until = compute_cut_off(window, policy, reserve_seconds)
    return until if until > window.start else window.end


def describe_freeze(freeze: Freeze, window: Window) -> str:
    """Return in words which freeze prevents a window."""
    reason = f"{freeze.reason}, " if freeze.reason else ""
    return (
        f"frozen: {reason}from {format_date_and_time(freeze.start, window.zone)} "
        f"to {format_date_and_time(freeze.end, window.zone)}; "
        f"the window is {describe_window(window)}"
    )


MISSED_WINDOW_GRACE_PERIOD = timedelta(minutes=5)
"""A run that starts at the last possible time has this long to record the missed window itself."""


class FlowRunState(StrEnum):
    """The state of a flow run in Prefect."""

    WAITING = "waiting"  # scheduled, not started
    PENDING = "pending"  # given to a worker, not started
    STARTED = "begun"  # it runs, or has ended
    CANCELLED = "cancelled"  # before it began
    CANCELLED_BY_LIMIT = "limited"  # cancelled by the limit of its deployment, before it began
    FAILED = "failed"  # it failed or crashed, before or after its begin


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A flow run that Prefect made for a window."""

    id: str
    name: str
    state: FlowRunState
    message: str = ""


@dataclass(frozen=True, slots=True)
class MissedWindow:
    """Why no run used a window, and the id of the flow run that should have used it ("" when there is none)."""

    reason: str
    flow_run_id: str


def find_missed_window(
    window: Window,
    last_start: datetime,
    now: datetime,
    runs: Sequence[ScheduledRun],
    claim: WindowClaim | None,
    *,
    is_recorded: bool = True,
) -> MissedWindow | None:
    """Return why no run used a window; None when a run used it, or still can.

    From ``last_start`` on, nothing begins in the window. ``is_recorded``: the records have the run of ``claim``.
    """
    if claim is not None and (claim.status is not WindowStatus.CLAIMED or is_recorded):
        return None
    limited = next((run for run in runs if run.state is FlowRunState.CANCELLED_BY_LIMIT), None)
    waits = any(run.state is not FlowRunState.CANCELLED_BY_LIMIT for run in runs)
    over = now >= last_start + MISSED_WINDOW_GRACE_PERIOD
    if claim is None and limited is not None and not waits:
        return _build_missed_window(window, limited)
    if not over or any(run.state is FlowRunState.STARTED for run in runs):
        return None
    return _build_missed_window(window, next((run for run in runs if run is not limited), limited))


def _build_missed_window(window: Window, run: ScheduledRun | None) -> MissedWindow:
    introduction = f"no run used the window {describe_window(window)}: "
    if run is None:
        cause = "Prefect made none (was its server or its scheduler off, or the deployment paused?)"
        return MissedWindow(f"{introduction}{cause}", "")
    message = f": {run.message}" if run.message else ""
    match run.state:
        case FlowRunState.WAITING:
            cause = f"flow run {run.name} was never started (is a worker online?)"
        case FlowRunState.PENDING:
            cause = f"flow run {run.name} is stuck as Pending"
        case FlowRunState.CANCELLED_BY_LIMIT:
            cause = f"Prefect cancelled flow run {run.name} while an earlier run of its deployment counted as running"
        case FlowRunState.CANCELLED:
            cause = f"flow run {run.name} was cancelled in Prefect before it began{message}"
        case _:
            cause = f"flow run {run.name} failed before it used the window{message}"
    return MissedWindow(f"{introduction}{cause}", run.id)


_PREREQUISITES_NOT_MET = "prerequisites not met: "


def check_patch_owner(machine: Machine, configuration: str) -> str:
    """Return why a run may not patch a machine, or "" when it may.

    ``configuration`` is "" for a run without one: a person or fleetpatch itself started it.
    """
    if machine.owner is PatchOwner.FLEETPATCH:
        return ""
    if machine.owner is PatchOwner.MANAGED:
        return (
            f"{_PREREQUISITES_NOT_MET}it is managed, so configuration {configuration!r} may not patch it"
            if configuration
            else ""
        )
    return f"{_PREREQUISITES_NOT_MET if configuration else ''}it is patched by its owner: {machine.owner}"
