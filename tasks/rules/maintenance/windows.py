"""Decides in which window a held package is applied by itself, and what a window that opens may install. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum

from inventory.data_class import dataclass
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import format_date_and_time
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.model import (
    CLOCK_TOLERANCE,
    Application,
    ApplyCause,
    ApplyMode,
    GroupState,
    HeldPackage,
    HoldPolicy,
)


def list_allowed_windows(
    windows: Iterable[Occurrence], freezes: Sequence[Freeze], now: datetime
) -> tuple[Occurrence, ...]:
    """Return the windows that are open or coming and that no freeze touches."""
    return tuple(window for window in windows if window.end > now and find_freeze(window, freezes) is None)


def choose_window(policy: HoldPolicy, allowed: Sequence[Occurrence], last: datetime, now: datetime) -> datetime | None:
    """Return when the window opens in which a package is applied by itself; None: none is left.

    It is the last one that ends before the last day is over. If there is none, it is the last one that opens before.
    After the last day, it is the next one.

    Args:
        policy: that of the group.
        allowed: the windows that may open, in their order.
        last: the end of the package's last day.
        now: the present time, aware.
    """
    if not allowed:
        return None
    if policy.apply is ApplyMode.EACH_WINDOW or now >= last:
        return allowed[0].start
    complete = [window for window in allowed if window.end <= last]
    begun = complete or [window for window in allowed if window.start < last]
    return begun[-1].start if begun else None


class Permission(StrEnum):
    """What a window may install."""

    ALL = "all"
    EXCEPTIONS = "exceptions"  # only what is not held
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """What a window of a group may install, and why."""

    permission: Permission
    reason: str
    cause: ApplyCause | None = None  # why the package is applied; None: it is not
    number: int = 0  # of the package that is applied, or that is held; 0: none is


def judge_window(
    policy: HoldPolicy, state: GroupState | None, start: datetime, now: datetime, zone: str = ""
) -> WindowVerdict:
    """Return what a window may install that opens by the schedule of a group.

    A group that was never looked at is held, and so is one whose last application was not looked at since it ended.

    Args:
        policy: that of the group.
        state: what is remembered of the group; None: nothing is.
        start: when the window opens.
        now: the present time, aware.
        zone: for the reason; "": that of the times.
    """
    closed = Permission.EXCEPTIONS if policy.has_exceptions else Permission.NOTHING
    if state is None or state.looked_at is None:
        return WindowVerdict(closed, "held: maintenance control has not looked at its machines yet")
    package, application = state.package, state.last_application
    if package is None:
        return WindowVerdict(closed, "nothing is held: no update was pending at the last look")
    if application is not None and not _was_looked_at(state, application, now):
        reason = f"held: package {package.number} is being applied already ({application.cause})"
        return WindowVerdict(closed, reason, number=package.number)
    last = package.compute_last_moment(policy.hold)
    cause = _find_cause(policy, package, start, is_overdue=max(start, now) >= last)
    reason = _explain_cause(cause, package, last, zone)
    return WindowVerdict(Permission.ALL if cause is not None else closed, reason, cause, package.number)


def _find_cause(policy: HoldPolicy, package: HeldPackage, start: datetime, *, is_overdue: bool) -> ApplyCause | None:
    if policy.apply is ApplyMode.EACH_WINDOW:
        return ApplyCause.SCHEDULE
    if is_overdue:
        return ApplyCause.OVERDUE
    return ApplyCause.LAST_WINDOW if package.applies_at is not None and start >= package.applies_at else None


def _explain_cause(cause: ApplyCause | None, package: HeldPackage, last: datetime, zone: str) -> str:
    last_text = format_date_and_time(last, zone)
    if cause is ApplyCause.SCHEDULE:
        return "applied by its schedule"
    if cause is ApplyCause.OVERDUE:
        return f"its last day was over at {last_text}"
    if cause is ApplyCause.LAST_WINDOW:
        return f"the last window before its last day is over at {last_text}"
    if package.applies_at is None:
        return f"held: no window is left, so it is applied when its last day is over, {last_text}, or by a person"
    window_text = format_date_and_time(package.applies_at, zone)
    return f"held: it is applied in the window of {window_text}, unless a person applies it earlier"


def _was_looked_at(state: GroupState, application: Application, now: datetime) -> bool:
    """Return whether the group was looked at since its last application ended. An end that is later than now counts."""
    if application.ended_at is None or state.looked_at is None:
        return False
    return application.ended_at <= state.looked_at or application.ended_at > now + CLOCK_TOLERANCE
