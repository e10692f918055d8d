"""Looks at a group of machines: when a package begins and ends, and when it is applied without a window. Pure.

The first moment of a package never moves to a later time while it is held. An error of a clock may make a hold shorter,
and never longer: a time that is later than now counts as now.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from inventory.name_lists import format_count, join_first_names
from tasks.domain.states import OperationState
from tasks.rules.calendar.freezes import Freeze, find_freeze
from tasks.rules.calendar.local_time import format_date_and_time
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.model import (
    CLOCK_TOLERANCE,
    LOOK_LIMIT,
    REFUSAL_PAUSE,
    SOON,
    Application,
    ApplyCause,
    GroupMachine,
    GroupState,
    GroupView,
    HeldPackage,
    HoldPolicy,
    Look,
    News,
    PackageEnd,
    Start,
    WaitingUpdate,
)
from tasks.rules.maintenance.windows import choose_window, list_allowed_windows


def look_at_group(policy: HoldPolicy, state: GroupState, view: GroupView, now: datetime, zone: str = "") -> Look:
    """Return what becomes of a group. A second look at the same moment changes nothing, and begins nothing more.

    Args:
        policy: how its updates are held.
        state: what is remembered of it, with the present states of its applications.
        view: what is known of it now.
        now: the present time, aware.
        zone: for what people read; "": that of the times.
    """
    if view.problem:
        return Look(state, news=(build_problem_news(state.group, view.problem, now),))
    state, ended = _end_package(state, view, now)
    state = _keep_package(state, view, now)
    package = state.package
    if package is None:
        return Look(replace(state, looked_at=now, is_removed=False), ended=ended)
    last = package.compute_last_moment(policy.hold)
    applies_at = choose_window(policy, list_allowed_windows(view.windows, view.freezes, now), last, now)
    package = replace(package, applies_at=applies_at)
    state = replace(state, package=package, looked_at=now, is_removed=False)
    start = choose_start(policy, state, view, now)
    news = tuple(_iterate_news(policy, state, view, now, zone, start))
    return Look(state, start, news, ended)


def clip_first_seen(updates: list[WaitingUpdate], state: GroupState, view: GroupView, now: datetime) -> datetime:
    """Return the first moment of a package that begins.

    It is the first moment at which an assessment saw one of its updates, and at the earliest the last look, which has
    found nothing: what a machine brings from another group was not seen here before. A group that was never looked at
    begins now, or at the first moment of the removed group that it follows.
    """
    floor = now
    if state.looked_at is not None and state.looked_at <= now:
        floor = state.looked_at
    first_seen = min(now, max(floor, min(update.since for update in updates)))
    is_first = state.number == 0 or state.is_removed
    return min(first_seen, view.inherited) if is_first and view.inherited is not None else first_seen


def find_remaining(application: Application, machines: tuple[GroupMachine, ...]) -> tuple[str, ...]:
    """Return the machines on which something of an application is left that has ended.

    An update that was seen later than the application began is none of it. What a machine said before the end counts,
    unless the run has installed everything there.
    """
    assert application.ended_at is not None  # noqa: S101 - for the type checker
    left: list[str] = []
    for machine in machines:
        is_newer = machine.answered_at is not None and machine.answered_at > application.ended_at
        if machine.name in application.done and not is_newer:
            continue
        if machine.answered_at is None or any(update.since <= application.began_at for update in machine.updates):
            left.append(machine.name)
    return tuple(left)


def _end_package(state: GroupState, view: GroupView, now: datetime) -> tuple[GroupState, HeldPackage | None]:
    """End the package if it was applied, or if nothing of it is pending any more."""
    package, application = state.package, state.last_application
    if package is None or (application is not None and application.is_active):
        return state, None
    if application is not None and _is_applied(application, view):
        ended = replace(package, ended_at=application.ended_at, end=PackageEnd.APPLIED, applies_at=None)
        # What was seen while it was applied belongs to the next package: it counts from there.
        return replace(state, package=None, applications=(), looked_at=application.began_at), ended
    if is_empty(view):
        ended = replace(package, ended_at=now, end=PackageEnd.EMPTIED, applies_at=None)
        return replace(state, package=None, applications=(), looked_at=now), ended
    return state, None


def _is_applied(application: Application, view: GroupView) -> bool:
    return bool(view.machines) and not application.refusal and not find_remaining(application, view.machines)


def is_empty(view: GroupView) -> bool:
    """Return whether nothing is pending. That is not known without machines, nor while one never gave an answer."""
    return bool(view.machines) and not view.unread and not any(machine.updates for machine in view.machines)


def _keep_package(state: GroupState, view: GroupView, now: datetime) -> GroupState:
    """Begin a package if there is none and something is pending; correct the first moment of one that can't be true."""
    package = state.package
    if package is not None:
        if package.first_seen > now + CLOCK_TOLERANCE:
            return replace(state, package=replace(package, first_seen=now))
        return state
    updates = [update for _, update in view.iterate_updates()]
    if not updates:
        return state
    number = state.number + 1
    first_seen = clip_first_seen(updates, state, view, now)
    return replace(state, number=number, package=HeldPackage(number, first_seen), applications=())


def choose_start(policy: HoldPolicy, state: GroupState, view: GroupView, now: datetime) -> Start | None:
    """Return the run that begins without a window, or None.

    After the last day, whatever the schedule, the package is applied once. What is left of it then waits for the next
    windows, and for people: nothing that changes machines is retried by itself.
    """
    package = state.package
    if package is None or now < package.compute_last_moment(policy.hold):
        return None
    if any(application.is_active for application in state.applications) or find_present_freeze(policy, view, now):
        return None
    tries = [application for application in state.applications if application.cause is ApplyCause.OVERDUE]
    if any(not application.refusal for application in tries):
        return None
    refused_at = tries[-1].ended_at if tries else None
    if refused_at is not None and refused_at <= now + CLOCK_TOLERANCE and now < refused_at + REFUSAL_PAUSE:
        return None
    return Start(f"{state.group}/{package.number}/overdue/{len(tries) + 1}", ApplyCause.OVERDUE)


def find_present_freeze(policy: HoldPolicy, view: GroupView, now: datetime) -> Freeze | None:
    """Return the freeze that keeps a window from opening now, or None."""
    return find_freeze(Occurrence(now, now + policy.window, now.replace(tzinfo=None)), view.freezes)


def build_problem_news(group: str, problem: str, now: datetime) -> News:
    """Return what people are told once a day of a group that can't be read."""
    message = f"{group}: what is held is not known: {problem}"
    return News(f"hold/{group}/problem/{now:%Y%m%d}", message, is_bad=True)


def _iterate_news(
    policy: HoldPolicy, state: GroupState, view: GroupView, now: datetime, zone: str, start: Start | None
) -> Iterator[News]:
    package, application = state.package, state.last_application
    if package is None or (application is not None and application.is_active):
        return
    key, last = f"hold/{state.group}/{package.number}", package.compute_last_moment(policy.hold)
    contents, last_text = _describe_contents(view), format_date_and_time(last, zone)
    if application is None:
        message = f"{state.group}: {contents} held until {last_text}: {_describe_end(package, zone)}"
        yield News(f"{key}/held", message)
    if now < last:
        yield from _iterate_early_news(policy, state, view, now, zone)
    elif start is None:
        reason = _explain(state, find_present_freeze(policy, view, now))
        yield News(f"{key}/overdue", f"{state.group}: {contents} overdue since {last_text}: {reason}", is_bad=True)


def _iterate_early_news(
    policy: HoldPolicy, state: GroupState, view: GroupView, now: datetime, zone: str
) -> Iterator[News]:
    """Yield what people should know before the last day is over."""
    package, application, group = state.package, state.last_application, state.group
    assert package is not None  # noqa: S101 - for the type checker
    key, last = f"hold/{group}/{package.number}", package.compute_last_moment(policy.hold)
    last_text = format_date_and_time(last, zone)
    if application is not None and application.state is not OperationState.CANCELLED:
        left = join_first_names(list(find_remaining(application, view.machines)), 10)
        reason = application.refusal or f"something is left on {left}"
        message = f"{group}: package {package.number} was applied: {reason}"
        yield News(f"{key}/left/{application.key}", message, is_bad=True)
    if policy.hold > 2 * SOON and last - now <= SOON:
        message = f"{group}: {_describe_contents(view)} held, {_describe_end(package, zone)}"
        yield News(f"{key}/soon", f"{message}; its last day is over at {last_text}")
    if package.applies_at is None:
        message = f"{group}: no window is left before the last day of what is held"
        how = f"it is applied at {last_text}, outside of its schedule"
        yield News(f"{key}/no-window", f"{message}: {how}", is_bad=True)


def _describe_contents(view: GroupView) -> str:
    names = {update.name for _, update in view.iterate_updates()}
    machines = [machine for machine in view.machines if machine.updates]
    return f"{format_count(len(names), 'update')} on {format_count(len(machines), 'machine')}"


def _describe_end(package: HeldPackage, zone: str) -> str:
    if package.applies_at is None:
        return "no window is left before"
    return f"applied by itself in the window of {format_date_and_time(package.applies_at, zone)}"


def _explain(state: GroupState, freeze: Freeze | None) -> str:
    if freeze is not None:
        return f"frozen{f': {freeze.reason}' if freeze.reason else ''}"
    refused = next((each.refusal for each in reversed(state.applications) if each.refusal), "")
    return refused or "it was applied, and something is left. The next windows try it again"


def is_look_missing(looked_at: datetime | None, now: datetime) -> bool:
    """Return whether nobody looks at a group: what is held there ages unseen, and nothing begins after its last day."""
    return looked_at is None or now - looked_at > LOOK_LIMIT
