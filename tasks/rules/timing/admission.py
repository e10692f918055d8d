"""Whether a run may begin at all in its window: freezes, windows that are over, windows that another run has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from tasks.model import Window
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.time_format import format_duration, format_time_with_zone
from tasks.rules.timing.maintenance_window import compute_cut_off, describe_cut_off, describe_window
from tasks.states import RebootPolicy


class WindowStatus(StrEnum):
    """What became of one window of a configuration."""

    CLAIMED = "run"  # a run has it
    MISSED = "missed"  # it was over, or held nothing any more, when its run started
    FROZEN = "frozen"
    CANCELLED = "cancelled"  # a person called it off
    REPLACED = "replaced"  # what is asked was changed after the run was made; never recorded: another run may have it


@dataclass(frozen=True, slots=True)
class WindowClaim:
    """One window of a configuration, and the one run that it belongs to, or why it has none.

    Attributes:
        configuration: its name.
        starts_at: when the window opens, or would have opened.
        run_id: of the run that has it, or that was refused.
        reason: why it has no run; of a run: who claimed it (the id of its flow run).
        recorded_at: when this was recorded.
    """

    configuration: str
    starts_at: datetime
    status: WindowStatus
    run_id: str
    reason: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class AdmissionRefusal:
    """Why a run may not begin; with ``WindowStatus.CLAIMED`` another one has its window."""

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
    """Return why a run may not begin, or None when it may. A freeze wins over everything else.

    Args:
        window: that the run would keep to.
        now: the present moment, aware.
        freezes: of the run's configuration.
        scheduled: it was to start at a moment of its own, so that being late matters (and, of a schedule's run, being
            the second). A person who gives a window that is over is told by each machine's outcome that nothing fits.
        policy: whether time is kept for a reboot.
        reserve_seconds: how much.
        claim: what the records say of this window; None before they are asked.
        claimant: who wants it: see ``WindowClaim.reason``.
    """
    freeze = find_freeze(window, freezes)
    if freeze is not None:
        return AdmissionRefusal(WindowStatus.FROZEN, describe_freeze(freeze, window))
    if not scheduled:
        return None
    last_start = compute_last_start(window, policy, reserve_seconds)
    if now >= last_start:
        return AdmissionRefusal(
            WindowStatus.MISSED, _describe_missed_window(window, now, last_start, policy, reserve_seconds)
        )
    return None if claim is None else _check_claim(claim, window, claimant)


def compute_last_start(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the moment from which nothing is begun any more; of a window that is all reserve, its end."""
    until = compute_cut_off(window, policy, reserve_seconds)
    return until if until > window.start else window.end


def describe_freeze(freeze: Freeze, window: Window) -> str:
    """Return in words which freeze takes a window away."""
    why = f"{freeze.reason}, " if freeze.reason else ""
    return (
        f"frozen: {why}from {_format_date_and_time(freeze.start, window.zone)} "
        f"to {_format_date_and_time(freeze.end, window.zone)}; "
        f"the window is {describe_window(window)}"
    )


def _format_date_and_time(moment: datetime, zone: str) -> str:
    try:
        local = moment.astimezone(ZoneInfo(zone))
    except OverflowError:
        local = moment
    return f"{local.date().isoformat()} {format_time_with_zone(local)}"


def _describe_missed_window(
    window: Window, now: datetime, last_start: datetime, policy: RebootPolicy, reserve_seconds: float
) -> str:
    kept = f" ({describe_cut_off(window, policy, reserve_seconds)})" if last_start < window.end else ""
    late = (now - last_start).total_seconds()
    ago = f"{format_duration(late)} after" if late >= 1 else "which is"
    return (
        f"window missed: it was {describe_window(window)}; "
        f"the run started at {_format_date_and_time(now, window.zone)}, "
        f"{ago} the last moment to begin anything, {format_time_with_zone(last_start, window.zone)}{kept}"
    )


def _check_claim(claim: WindowClaim, window: Window, claimant: str) -> AdmissionRefusal | None:
    if claim.status is WindowStatus.CANCELLED:
        return AdmissionRefusal(
            WindowStatus.CANCELLED, f"the window {describe_window(window)} was called off: {claim.reason}"
        )
    if claim.status is WindowStatus.CLAIMED and not (claimant and claim.reason == claimant):
        reason = f"the window {describe_window(window)} of {claim.configuration} belongs to run {claim.run_id}"
        return AdmissionRefusal(WindowStatus.CLAIMED, reason)
    return None
