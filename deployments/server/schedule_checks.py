"""Checks of what starts runs: schedules, their lists of dates, and queues. No I/O, no clock."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.server.snapshot import REFRESH_FLOW, DeploymentInfo, ScheduleInfo, ScheduleStatus, ServerSnapshot
from flows.prefect_api.tags import find_tagged_fleets
from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel
from tasks.rules.calendar.prefect_schedule import (
    COMPARISON_HORIZON,
    PrefectSchedule,
    PrefectScheduleKind,
    iterate_prefect_starts,
)

SCHEDULER_HORIZON = timedelta(days=100)  # the server's default: PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME
SCHEDULER_INTERVAL = timedelta(minutes=2)  # it runs every 60 s, and every 5 s for new deployments
MAX_REFRESH_SILENCE = timedelta(days=2)  # refresh-schedules runs once a day


def check_scheduler(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that runs are scheduled. A deployment can be ready although the scheduler makes no runs."""
    if not snapshot.schedule_statuses:
        return [Finding("scheduler", FindingLevel.GOOD, "no deployment has an active schedule")]
    dead = [status for status in snapshot.schedule_statuses if not status.run_count and _is_run_due(snapshot, status)]
    if not dead:
        waiting = sum(not status.run_count for status in snapshot.schedule_statuses)
        waiting_text = f"; {waiting} have no date left, or are too new" if waiting else ""
        message = f"{len(snapshot.schedule_statuses) - waiting} active schedules have runs{waiting_text}"
        return [Finding("scheduler", FindingLevel.GOOD, message)]
    faults = [status for status in dead if status.error]
    names = join_first_names([snapshot.get_deployment_name(status.deployment) for status in dead])
    if faults:
        message = f"no run is scheduled for {names}: {faults[0].error}"
        return [Finding("scheduler", FindingLevel.BLOCK, message, "Deploy it again with a schedule that can be read.")]
    message = f"{len(dead)} of {len(snapshot.schedule_statuses)} active schedules have no run: {names}"
    remedy = (
        "Their windows do not open. Check that the scheduler is on (PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED) and "
        "has the libraries of requirements.lock (SQLAlchemy 2.1 breaks it silently). Read the server's log."
    )
    return [Finding("scheduler", FindingLevel.BLOCK, message, remedy)]


def check_date_lists(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that schedules that are lists of dates are extended. After the last date of a list, no window opens."""
    lists: dict[tuple[str, ...], list[tuple[datetime, DeploymentInfo]]] = {}
    for deployment in snapshot.deployments:
        for schedule in deployment.active_schedules if deployment.is_managed else ():
            if end := _find_last_date(schedule, snapshot.now):
                lists.setdefault(tuple(find_tagged_fleets(deployment.tags)), []).append((end, deployment))
    for fleets, ends in sorted(lists.items()):
        refreshes = [
            max(filter(None, (deployment.created, snapshot.refreshed_at.get(deployment.id))), default=None)
            for deployment in snapshot.deployments
            if snapshot.flow_names.get(deployment.flow_id) == REFRESH_FLOW
            and tuple(find_tagged_fleets(deployment.tags)) == fleets
        ]
        last = max(filter(None, refreshes), default=None)
        if last is None or snapshot.now - last > MAX_REFRESH_SILENCE:
            silence = f"has not completed for {format_age(snapshot.now - last)}" if last else "has no deployment"
            names = join_first_names(
                list(dict.fromkeys(snapshot.get_deployment_name(deployment) for _, deployment in ends))
            )
            message = f"{REFRESH_FLOW} {silence}: {names} will have no more runs from {min(ends)[0]:%Y-%m-%d} on"
            remedy = f"See why in Prefect's log of {REFRESH_FLOW}, and start it there; or run `fleetpatch deploy`."
            return [Finding("dates", FindingLevel.WARN, message, remedy)]
    count = sum(map(len, lists.values()))
    text = f"{format_count(count, 'schedule', ('is a list', 'are lists'))} of dates, which {REFRESH_FLOW} extends"
    return [Finding("dates", FindingLevel.GOOD, text)] if count else []


def _is_run_due(snapshot: ServerSnapshot, schedule_status: ScheduleStatus) -> bool:
    """Return whether the scheduler should have made a run of this schedule by now."""
    changed = schedule_status.deployment.updated
    if changed is not None and snapshot.now - changed < SCHEDULER_INTERVAL:
        return False  # the scheduler may not have run since the change
    return bool(schedule_status.error) or (
        schedule_status.next_date is not None and schedule_status.next_date - snapshot.now < SCHEDULER_HORIZON
    )


def _find_last_date(schedule: ScheduleInfo, now: datetime) -> datetime | None:
    """Return the last date of a schedule that is a list of dates; None if it is none, or can't be read."""
    rule, zone = str(schedule.schedule.get("rrule", "")), str(schedule.schedule.get("timezone") or "UTC")
    if "RDATE" not in rule:
        return None
    dates = PrefectSchedule(PrefectScheduleKind.RDATE, rule, zone, None)
    try:
        return max(iterate_prefect_starts(dates, now - COMPARISON_HORIZON, now + COMPARISON_HORIZON), default=None)
    except (ValueError, TypeError):  # check_scheduler says so
        return None


def format_age(span: timedelta) -> str:
    """Return a time in minutes, hours or days."""
    minutes = span.total_seconds() / 60
    if minutes < 120:
        return format_count(round(minutes), "minute")
    return (
        format_count(round(minutes / 60), "hour") if minutes < 48 * 60 else format_count(round(minutes / 1440), "day")
    )


def check_queues(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check the queues of each pool that fleetpatch uses. A pool that is missing is another check's."""
    managed = [
        deployment
        for deployment in snapshot.deployments
        if deployment.is_managed and deployment.work_pool_name in snapshot.queues
    ]
    pools = sorted({deployment.work_pool_name for deployment in managed if deployment.work_pool_name})
    return [
        _check_pool_queues(snapshot, pool, [deployment for deployment in managed if deployment.work_pool_name == pool])
        for pool in pools
    ]


def _check_pool_queues(snapshot: ServerSnapshot, pool: str, deployments: Sequence[DeploymentInfo]) -> Finding:
    check, queues = f"queues {pool}", {queue.name: queue for queue in snapshot.queues[pool]}
    lost = [
        snapshot.get_deployment_name(deployment)
        for deployment in deployments
        if deployment.work_queue_name not in queues
    ]
    if lost:
        message = f"their queue does not exist, so no run of them starts: {join_first_names(lost)}"
        return Finding(check, FindingLevel.BLOCK, message, "`fleetpatch deploy` makes it again.")
    used_queues = [queues[name] for name in sorted({str(deployment.work_queue_name) for deployment in deployments})]
    for queue in used_queues:
        if queue.is_paused:
            remedy = f"fleetpatch prefect work-queue resume {queue.name} --pool {pool}"
            return Finding(check, FindingLevel.BLOCK, f"{queue.name} is paused: no run in it starts", remedy)
        if queue.concurrency_limit == 0:
            remedy = f"fleetpatch prefect work-queue clear-concurrency-limit {queue.name} --pool {pool}"
            return Finding(check, FindingLevel.BLOCK, f"{queue.name} has a limit of 0: no run in it starts", remedy)
    second = queues.get(ASSESSMENT_QUEUE)
    if second is None:
        message = "assessments wait in the queue of the windows, which may start late behind them"
        return Finding(check, FindingLevel.WARN, message, f"`fleetpatch deploy` makes the queue {ASSESSMENT_QUEUE}.")
    if late := [queue.name for queue in used_queues if queue is not second and queue.priority >= second.priority]:
        message = f"workers take the runs of {second.name} before those of {', '.join(late)}, which has the windows"
        return Finding(check, FindingLevel.WARN, message, "`fleetpatch deploy` puts them in order.")
    names = [queue.name for queue in sorted(used_queues, key=lambda queue: queue.priority)]
    return Finding(check, FindingLevel.GOOD, f"in order: {', '.join(names)}")
