"""Whether a run may begin at all in its window: freezes, windows that are over, windows that another run has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from tasks.model import Window
from tasks.rules.calendar.freezes import Freeze, frozen
from tasks.rules.window import cut_off, describe, say_duration, say_time, why_cut_off
from tasks.states import RebootPolicy


class Standing(StrEnum):
    """What became of one window of a configuration."""

    RUN = "run"  # a run has it
    MISSED = "missed"  # it was over, or held nothing any more, when its run started
    FROZEN = "frozen"
    CANCELLED = "cancelled"  # a person called it off
    REPLACED = "replaced"  # what is asked was changed after the run was made; never recorded: another run may have it


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One window of a configuration, and the one run that it belongs to, or why it has none.

    Attributes:
        configuration: its name.
        starts_at: when the window opens, or would have opened.
        run_id: of the run that has it, or that was refused.
        reason: why it has no run; of a run: who claimed it (the id of its flow run).
        at: when this was recorded.
    """

    configuration: str
    starts_at: datetime
    what: Standing
    run_id: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run may not begin; with ``Standing.RUN`` another one has its window."""

    what: Standing
    reason: str


def admit(
    window: Window,
    now: datetime,
    freezes: Sequence[Freeze],
    *,
    scheduled: bool,
    policy: RebootPolicy,
    reserve_seconds: float,
    standing: Occurrence | None = None,
    claimant: str = "",
) -> Refusal | None:
    """Return why a run may not begin, or None when it may. A freeze wins over everything else.

    Args:
        window: that the run would keep to.
        now: the present moment, aware.
        freezes: of the run's configuration.
        scheduled: it was to start at a moment of its own, so that being late matters (and, of a schedule's run, being
            the second). A person who gives a window that is over is told by each machine's outcome that nothing fits.
        policy: whether time is kept for a reboot.
        reserve_seconds: how much.
        standing: what the records say of this window; None before they are asked.
        claimant: who wants it: see ``Occurrence.reason``.
    """
    freeze = frozen(window, freezes)
    if freeze is not None:
        return Refusal(Standing.FROZEN, why_frozen(freeze, window))
    if not scheduled:
        return None
    last = last_moment(window, policy, reserve_seconds)
    if now >= last:
        return Refusal(Standing.MISSED, _missed(window, now, last, policy, reserve_seconds))
    return None if standing is None else _taken(standing, window, claimant)


def last_moment(window: Window, policy: RebootPolicy, reserve_seconds: float) -> datetime:
    """Return the moment from which nothing is begun any more; of a window that is all reserve, its end."""
    until = cut_off(window, policy, reserve_seconds)
    return until if until > window.start else window.end


def why_frozen(freeze: Freeze, window: Window) -> str:
    """Return in words which freeze takes a window away."""
    why = f"{freeze.reason}, " if freeze.reason else ""
    return (
        f"frozen: {why}from {_day(freeze.start, window.zone)} to {_day(freeze.end, window.zone)}; "
        f"the window is {describe(window)}"
    )


def _day(moment: datetime, zone: str) -> str:
    try:
        local = moment.astimezone(ZoneInfo(zone))
    except OverflowError:
        local = moment
    return f"{local.date().isoformat()} {say_time(local)}"


def _missed(window: Window, now: datetime, last: datetime, policy: RebootPolicy, reserve_seconds: float) -> str:
    kept = f" ({why_cut_off(window, policy, reserve_seconds)})" if last < window.end else ""
    late = (now - last).total_seconds()
    ago = f"{say_duration(late)} after" if late >= 1 else "which is"
    return (
        f"window missed: it was {describe(window)}; the run started at {_day(now, window.zone)}, "
        f"{ago} the last moment to begin anything, {say_time(last, window.zone)}{kept}"
    )


def _taken(standing: Occurrence, window: Window, claimant: str) -> Refusal | None:
    if standing.what is Standing.CANCELLED:
        return Refusal(Standing.CANCELLED, f"the window {describe(window)} was called off: {standing.reason}")
    if standing.what is Standing.RUN and not (claimant and standing.reason == claimant):
        reason = f"the window {describe(window)} of {standing.configuration} belongs to run {standing.run_id}"
        return Refusal(Standing.RUN, reason)
    return None
