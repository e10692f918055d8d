"""Checks of a server snapshot. They report problems for the fleet. No I/O, no clock."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from deployments.server.connection_urls import is_loopback
from deployments.server.schedule_checks import check_date_lists, check_queues, check_scheduler
from deployments.server.site_checks import (
    check_site_versions,
    check_undeployed_sites,
    check_workers,
    find_online_workers,
)
from deployments.server.snapshot import CONTROL_FLOW, FlowRunInfo, RunLeaseState, RunningFlowRun, ServerSnapshot
from flows.prefect_api.server_settings import names_all_origins
from inventory.data_class import dataclass
from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel
from tasks.rules.maintenance.look import is_look_missing

MIN_BATCH_SIZE: Final = 20  # Prefect's default is 1; fleetpatch sets 200


_RESTART_HINT: Final = "Start it with `fleetpatch server` (docs/how-to/server.md)."


@dataclass(frozen=True, slots=True)
class SettingRule:
    """A rule for one setting."""

    path: str  # dotted path in the answer of ``/admin/settings``
    is_wrong: Callable[[object], bool]  # returns whether a value is wrong
    message: str  # the effect of a wrong value
    remedy: str = _RESTART_HINT
    level: FindingLevel = FindingLevel.WARN


def check_settings(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Return a finding for each setting that lets others in, loses records or misses windows."""
    if snapshot.settings is None:
        remedy = "Check whether a proxy blocks /api/admin."
        return [Finding("settings", FindingLevel.WARN, "the server does not show its settings", remedy)]
    findings = [
        Finding("settings", rule.level, rule.message, rule.remedy)
        for rule in SETTING_RULES
        if (value := snapshot.get_setting(rule.path)) is not None and rule.is_wrong(value)
    ]
    return findings or [Finding("settings", FindingLevel.GOOD, "no setting lets others in or loses records")]


def _is_batch_too_small(value: object) -> bool:
    return isinstance(value, int) and value < MIN_BATCH_SIZE


def _is_off(value: object) -> bool:
    return value is False


_SERVICE_PREFIX = "PREFECT_SERVER_SERVICES"
SETTING_RULES = (
    SettingRule(
        "server.api.csrf_protection_enabled",
        _is_off,
        "the protection against forged requests is off: a web page can start runs through your browser",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.api.cors_allowed_origins",
        lambda value: isinstance(value, str) and names_all_origins(value),
        "every web page may read the server through your browser",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.scheduler.enabled",
        _is_off,
        "the scheduler is off: no window opens",
        f"Unset {_SERVICE_PREFIX}_SCHEDULER_ENABLED there, or run `prefect server services start` beside it.",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.task_run_recorder.enabled",
        _is_off,
        "the recorder is off: the server keeps no task run",
        f"Unset {_SERVICE_PREFIX}_TASK_RUN_RECORDER_ENABLED there.",
        level=FindingLevel.BLOCK,
    ),
    SettingRule(
        "server.services.task_run_recorder.batch_size",
        _is_batch_too_small,
        "task runs are written one by one: a large run loses a third of them",
    ),
    SettingRule(
        "server.services.triggers.read_batch_size",
        _is_batch_too_small,
        "automations read events one by one: during a large run they miss some",
    ),
    *(
        SettingRule(
            f"server.services.{service}.enabled",
            _is_off,
            message,
            f"Unset {_SERVICE_PREFIX}_{service.upper()}_ENABLED there.",
        )
        for service, message in (
            ("triggers", "automations are off: dead runs stay Running"),
            ("late_runs", "late runs are not marked: you do not see runs that do not start"),
            ("event_persister", "events are not kept: the history of runs is lost"),
        )
    ),
    SettingRule(
        "server.services.db_vacuum.enabled",
        lambda value: isinstance(value, list) and "flow_runs" not in value,
        "old runs are never removed: the database grows until the scheduler stalls",
    ),
    SettingRule(
        "server.analytics_enabled", lambda value: value is True, "the server sends usage data to Prefect's makers"
    ),
)


ServerCheck = Callable[[ServerSnapshot], Sequence[Finding]]

CLOCK_SKEW_WARNING = timedelta(seconds=5)
CLOCK_SKEW_BLOCKING = timedelta(seconds=60)
USUAL_START_TIME = timedelta(minutes=1)  # a process worker needs 6 to 12 s on two cores
MAX_PENDING_TIME = timedelta(minutes=5)  # the server starts a scheduled run again after two minutes
MAX_RUN_SILENCE = timedelta(minutes=10)  # three heartbeats at Prefect's default of 180 s
MAX_LATENESS = timedelta(minutes=1)


def check_version(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that server and client have the same release. Only equal releases are tested together."""
    if snapshot.version == snapshot.client_version:
        return [_build_good_finding("version", f"Prefect {snapshot.version} on both sides")]
    message = f"the server has Prefect {snapshot.version}, this machine has {snapshot.client_version}"
    remedy = "Install fleetpatch of the same release on both: pip install --require-hashes -r requirements.lock"
    same_major = snapshot.version.partition(".")[0] == snapshot.client_version.partition(".")[0]
    return [Finding("version", FindingLevel.WARN if same_major else FindingLevel.BLOCK, message, remedy)]


def check_clock(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check the clock skew. A window starts by the server's clock and ends by the worker's clock."""
    if snapshot.clock_skew is None:
        return [
            Finding(
                "clock", FindingLevel.WARN, "the server sends no time", "Check whether a proxy removes the Date header."
            )
        ]
    seconds = snapshot.clock_skew.total_seconds()
    if abs(snapshot.clock_skew) < CLOCK_SKEW_WARNING:
        return [_build_good_finding("clock", "it agrees with this machine's")]
    level = FindingLevel.BLOCK if abs(snapshot.clock_skew) >= CLOCK_SKEW_BLOCKING else FindingLevel.WARN
    message = f"the server's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    return [Finding("clock", level, message, "Use NTP on both: otherwise windows open or close at the wrong time.")]


def check_database(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check the database. SQLite allows one writer; under load, other writers wait up to a minute."""
    driver = str(snapshot.get_setting("server.database.driver") or "")
    if driver.startswith("postgresql"):
        return [_build_good_finding("database", "PostgreSQL")]
    if driver.startswith("sqlite"):
        workers = sum(len(find_online_workers(snapshot, pool.name)) for pool in snapshot.pools)
        if workers <= 1 and is_loopback(urlsplit(snapshot.url).hostname or ""):
            return [_build_good_finding("database", "SQLite: enough for one machine with one worker")]
        message = "SQLite with more than one machine: writers lock each other out, and runs stall"
        remedy = "Move to PostgreSQL: fleetpatch server --database postgresql://… (docs/how-to/server.md)."
        return [Finding("database", FindingLevel.WARN, message, remedy)]
    remedy = "Start it with `fleetpatch server`, or set PREFECT_SERVER_DATABASE_DRIVER there."
    return [Finding("database", FindingLevel.WARN, "the server does not name its kind of database", remedy)]


def check_access(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check who can use the server. A person who can use it is root on the fleet's machines."""
    remedy = "Start it with `fleetpatch server`: it makes a password, and checks the names (docs/how-to/server.md)."
    faults = []
    if snapshot.answers_anyone:
        faults.append("the server has no password: every user and program that reaches it can patch and reboot")
    if snapshot.answers_any_name:
        faults.append("the server answers under any name: a web page can use it through your browser")
    return [Finding("access", FindingLevel.BLOCK, fault, remedy) for fault in faults] or [
        _build_good_finding("access", "only with the password, and only under its own names")
    ]


def check_zombie_runs(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check for dead runs that Prefect shows as Running. They use their deployment's limit and block later runs."""
    dead = [flow_run for flow_run in snapshot.running_runs if _is_zombie(snapshot, flow_run)]
    if not dead:
        counted = format_count(len(snapshot.running_runs), "run")
        return [_build_good_finding("running", f"{counted}, each with a live process")]
    over = [flow_run for flow_run in dead if flow_run.lease_state is RunLeaseState.ENDED]
    findings = []
    if leaseless := [flow_run for flow_run in dead if flow_run.lease_state is not RunLeaseState.ENDED]:
        text = f"{format_count(len(leaseless), 'run', ('is', 'are'))} Running in Prefect, but without a process: "
        remedy = (
            "`fleetpatch reconcile` resumes or finalizes them. Then cancel them in the UI: they prevent later runs."
        )
        findings.append(Finding("running", FindingLevel.BLOCK, text + _join_running_names(snapshot, leaseless), remedy))
    if over:
        are = "run is Running in Prefect, but it is" if len(over) == 1 else "runs are Running in Prefect, but they are"
        text = f"{len(over)} {are} over in the records: "
        remedy = "`fleetpatch reconcile` sets their state in Prefect to that of the records: they prevent later runs."
        findings.append(Finding("running", FindingLevel.BLOCK, text + _join_running_names(snapshot, over), remedy))
    return findings


def check_waiting_runs(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check for runs that start late, and for runs that Prefect cancelled because another run was active."""
    findings = []
    stuck = [run for run in snapshot.pending_runs if snapshot.now - run.state.timestamp > MAX_PENDING_TIME]
    if stuck:
        counted = format_count(len(stuck), "run", ("stays", "stay"))
        message = f"{counted} Pending, and later runs can't start: {_join_run_names(snapshot, stuck)}"
        remedy = "Cancel or delete them in the UI. The worker's log says why they did not start."
        findings.append(Finding("pending", FindingLevel.BLOCK, message, remedy))
    starting = [
        run
        for run in snapshot.pending_runs
        if USUAL_START_TIME < snapshot.now - run.state.timestamp <= MAX_PENDING_TIME
    ]
    if starting:
        counted = format_count(len(starting), "run", ("waits", "wait"))
        message = f"{counted} for a process to begin: {_join_run_names(snapshot, starting)}"
        remedy = (
            "Wait: after two minutes, the server starts a run of a schedule again. If that repeats, the worker's log "
            "says why its process does not begin."
        )
        findings.append(Finding("starting", FindingLevel.WARN, message, remedy))
    late = [
        run
        for run in snapshot.late_runs
        if run.expected_start_time and snapshot.now - run.expected_start_time > MAX_LATENESS
    ]
    if late:
        message = f"{format_count(len(late), 'run', ('is', 'are'))} late: {_join_run_names(snapshot, late)}"
        remedy = "Check that their worker runs and its pool has room. A late run has only the rest of its window."
        findings.append(Finding("late", FindingLevel.WARN, message, remedy))
    by_deployment: dict[str, list[FlowRunInfo]] = {}
    for run in snapshot.runs_over_limit:
        by_deployment.setdefault(run.deployment_id or "", []).append(run)
    for deployment, runs in sorted(by_deployment.items()):
        if len(runs) > 1 or stuck:
            names = _join_run_names(snapshot, runs)
            counted = format_count(len(runs), "run")
            message = f"Prefect cancelled {counted} of one deployment, because another run was active: {names}"
            name = _find_deployment_name(snapshot, deployment) or deployment
            remedy = f"Look for a dead run of that deployment ({name}) that is Running or Pending, and cancel it."
            findings.append(Finding("limit", FindingLevel.WARN, message, remedy))
    return findings or [_build_good_finding("waiting", "no run stays Pending, is late or was cancelled by a limit")]


def check_missed_windows(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check the records for recent windows without a run."""
    if not snapshot.missed_windows:
        return [_build_good_finding("missed", "every known window of the last days had its run")]
    last = snapshot.missed_windows[-1]
    count = len(snapshot.missed_windows)
    counted = format_count(count, "window")
    message = f"{counted} of the last days had no run; the last one of {last.configuration}: {last.reason}"
    remedy = f"fleetpatch show {last.run_id}; start a run by hand with window.start, or wait for the next window."
    return [Finding("missed", FindingLevel.WARN, message, remedy)]


def check_held_groups(snapshot: ServerSnapshot) -> Sequence[Finding]:
    """Check that maintenance control looks at what is held. What nobody looks at is not applied after its last day."""
    is_deployed = any(
        snapshot.flow_names.get(deployment.flow_id) == CONTROL_FLOW for deployment in snapshot.deployments
    )
    if not is_deployed:
        return []
    if not snapshot.held_looks:
        reason = "the records can't be read" if snapshot.held_looks is None else "it has not looked yet"
        message = f"it is not known what {CONTROL_FLOW} holds: {reason}"
    elif silent := [name for name, at in snapshot.held_looks.items() if is_look_missing(at, snapshot.now)]:
        message = f"nobody has looked for 2 hours at what is held: {join_first_names(silent)}"
    else:
        counted = format_count(len(snapshot.held_looks), "group")
        return [_build_good_finding("held", f"{CONTROL_FLOW} looks at {counted}")]
    remedy = f"Nothing is applied after its last day. Check that a worker runs {CONTROL_FLOW}, and read its log."
    return [Finding("held", FindingLevel.WARN, message, remedy)]


SERVER_CHECKS: tuple[ServerCheck, ...] = (
    check_version,
    check_clock,
    check_database,
    check_access,
    check_settings,
    check_scheduler,
    check_date_lists,
    check_workers,
    check_undeployed_sites,
    check_site_versions,
    check_queues,
    check_zombie_runs,
    check_waiting_runs,
    check_missed_windows,
    check_held_groups,
)
"""All checks, in the order of the output."""


def run_server_checks(snapshot: ServerSnapshot) -> tuple[Finding, ...]:
    """Run all checks and return their findings."""
    reachable = _build_good_finding("server", f"{snapshot.url} answers")
    return (reachable, *(finding for judge in SERVER_CHECKS for finding in judge(snapshot)))


def _build_good_finding(check: str, words: str) -> Finding:
    return Finding(check, FindingLevel.GOOD, words)


def _is_zombie(snapshot: ServerSnapshot, running_run: RunningFlowRun) -> bool:
    match running_run.lease_state:
        case RunLeaseState.HELD:
            return False
        case RunLeaseState.ABANDONED:
            return True
        case RunLeaseState.ENDED:  # Prefect may not have received the end of the run yet
            return (
                snapshot.now - running_run.run.state.timestamp > MAX_RUN_SILENCE
                and running_run.has_heartbeat is not True
            )
        case RunLeaseState.UNKNOWN:
            return (
                snapshot.now - running_run.run.state.timestamp > MAX_RUN_SILENCE and running_run.has_heartbeat is False
            )


def _join_run_names(snapshot: ServerSnapshot, runs: Sequence[FlowRunInfo]) -> str:
    return join_first_names([_describe_run(snapshot, flow_run) for flow_run in runs])


def _join_running_names(snapshot: ServerSnapshot, runs: Sequence[RunningFlowRun]) -> str:
    return join_first_names(
        [
            f"{_describe_run(snapshot, running.run)}{f' (run {running.run_id})' if running.run_id else ''}"
            for running in runs
        ]
    )


def _describe_run(snapshot: ServerSnapshot, run: FlowRunInfo) -> str:
    """Return the names of a run and its deployment. Prefect invents the run's name; the deployment's name is known."""
    deployment_name = _find_deployment_name(snapshot, run.deployment_id)
    return f"{run.name} of {deployment_name}" if deployment_name else run.name


def _find_deployment_name(snapshot: ServerSnapshot, deployment_id: str | None) -> str:
    return next(
        (
            snapshot.get_deployment_name(deployment)
            for deployment in snapshot.deployments
            if deployment.id == deployment_id
        ),
        "",
    )
