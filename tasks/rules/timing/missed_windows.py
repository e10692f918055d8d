"""Finds windows that no run used, and why Prefect started no run for them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tasks.domain.model import Window
from tasks.rules.timing.admission import WindowClaim, WindowStatus
from tasks.rules.timing.maintenance_window import describe_window

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
    """A flow run that Prefect made for a window.

    Attributes:
        id: id of the flow run.
        name: name of the flow run.
        message: Prefect's message for its state.
    """

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

    Args:
        window: the window.
        last_start: the time from which nothing begins in the window.
        now: the current time, aware.
        runs: the flow runs that Prefect made for the window.
        claim: the record of the window, or None.
        is_recorded: whether the records have the run of ``claim``.
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
