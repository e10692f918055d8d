"""What a look at the server means for the fleet. Pure: it asks nobody, and knows no clock."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import groupby
from urllib.parse import urlsplit

from deployments.server.loopback import is_loopback
from deployments.server.settings_kept import judge_settings
from deployments.server.view import Carried, RunningRun, RunTold, ServerView, Upcoming, WorkerTold
from tasks.model import Finding
from tasks.states import FindingLevel

Judge = Callable[[ServerView], Sequence[Finding]]

SKEW_WARN = timedelta(seconds=5)
SKEW_BLOCK = timedelta(seconds=60)
LOOK_AHEAD = timedelta(days=100)  # the server's own: PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME
SCHEDULER_TURN = timedelta(minutes=2)  # it looks every 60 s, and at new deployments every 5 s
WORKER_SILENT = timedelta(seconds=90)  # three heartbeats of 30 s, as the server counts
SERVE_SILENT = timedelta(seconds=90)  # a serving process polls every 10 s
PENDING_TOO_LONG = timedelta(minutes=5)  # a process worker needs 6 to 12 s on two cores
RUNNING_SILENT = timedelta(minutes=10)  # three heartbeats at Prefect's default of 180 s
LATE_TOO_LONG = timedelta(minutes=1)
_SHOWN = 5


def judge_version(view: ServerView) -> Sequence[Finding]:
    """Server and client have to be of one release: what was tested together."""
    if view.version == view.our_version:
        return [_good("version", f"Prefect {view.version}, as here")]
    words = f"the server is Prefect {view.version}, here is {view.our_version}"
    remedy = "Install fleetpatch of the same release on both: pip install --require-hashes -r requirements.lock"
    same_major = view.version.partition(".")[0] == view.our_version.partition(".")[0]
    return [Finding("version", FindingLevel.WARN if same_major else FindingLevel.BLOCK, words, remedy)]


def judge_clock(view: ServerView) -> Sequence[Finding]:
    """A window begins by the server's clock and ends by the worker's."""
    if view.skew is None:
        return [Finding("clock", FindingLevel.WARN, "the server tells no time", "Is a proxy removing its Date header?")]
    seconds = view.skew.total_seconds()
    if abs(view.skew) < SKEW_WARN:
        return [_good("clock", "it agrees with ours")]
    level = FindingLevel.BLOCK if abs(view.skew) >= SKEW_BLOCK else FindingLevel.WARN
    words = f"the server's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    return [Finding("clock", level, words, "Let both follow NTP: a window would begin or end at another moment.")]


def judge_database(view: ServerView) -> Sequence[Finding]:
    """SQLite locks out whoever writes second; under load that stalls runs for a minute."""
    driver = str(view.setting("server.database.driver") or "")
    if driver.startswith("postgresql"):
        return [_good("database", "PostgreSQL")]
    if driver.startswith("sqlite"):
        workers = sum(len(_online(view, each.name)) for each in view.pools)
        if workers <= 1 and is_loopback(urlsplit(view.url).hostname or ""):
            return [_good("database", "SQLite: it does for one machine with one worker")]
        words = "SQLite, for more than one machine: who writes second is locked out, and runs stall"
        remedy = "Move to PostgreSQL: fleetpatch server --database postgresql://… (docs/server.md)."
        return [Finding("database", FindingLevel.WARN, words, remedy)]
    remedy = "Start it with `fleetpatch server`, or set PREFECT_SERVER_DATABASE_DRIVER there."
    return [Finding("database", FindingLevel.WARN, "the server doesn't say of which kind it is", remedy)]


def judge_scheduler(view: ServerView) -> Sequence[Finding]:
    """Deployments look ready while nothing is ever scheduled: only a run that lies ahead shows that it works."""
    if not view.upcoming:
        return [_good("scheduler", "no deployment has an active schedule")]
    dead = [each for each in view.upcoming if not each.runs and _is_due(view, each)]
    if not dead:
        waiting = sum(not each.runs for each in view.upcoming)
        rest = f"; {waiting} have none to come, or are too new" if waiting else ""
        return [_good("scheduler", f"runs lie ahead for {len(view.upcoming) - waiting} active schedules{rest}")]
    faults = [each for each in dead if each.fault]
    names = _names([view.deployment_name(each.deployment) for each in dead])
    if faults:
        words = f"no run lies ahead of {names}: {faults[0].fault}"
        return [Finding("scheduler", FindingLevel.BLOCK, words, "Deploy it again with a schedule that can be read.")]
    words = f"no run lies ahead for {len(dead)} of {len(view.upcoming)} active schedules: {names}"
    remedy = (
        "Its windows will not happen. Is the scheduler on (PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED), are "
        "its libraries those of requirements.lock (SQLAlchemy 2.1 breaks it silently)? See the server's log."
    )
    return [Finding("scheduler", FindingLevel.BLOCK, words, remedy)]


def judge_workers(view: ServerView) -> Sequence[Finding]:
    """Who would carry the runs out?"""
    ours = [each for each in view.deployments if each.ours]
    if not ours:
        remedy = "fleetpatch deploy puts configurations there; python -m deployments.serve offers the forms."
        return [Finding("deployments", FindingLevel.WARN, "nothing of fleetpatch's is deployed there", remedy)]
    pools = sorted({each.work_pool_name for each in ours if each.work_pool_name})
    found = [_good("deployments", f"{len(ours)} of fleetpatch's"), *(_of_pool(view, name) for name in pools)]
    served = [each for each in ours if not each.work_pool_name]
    silent = [each for each in served if each.last_polled is None or view.now - each.last_polled > SERVE_SILENT]
    if silent:
        names = _names([view.deployment_name(each) for each in silent])
        remedy = "Start what serves them: python -m deployments.serve (fleetpatch-serve.service), or remove them."
        found.append(Finding("served", FindingLevel.BLOCK, f"nobody serves {names}: their runs will not start", remedy))
    elif served:
        found.append(_good("served", f"{len(served)} deployments, by a process that is alive"))
    return found


def judge_zombies(view: ServerView) -> Sequence[Finding]:
    """A run that only seems to go on holds its deployment's place: later windows are cancelled."""
    dead = [each for each in view.running if _is_dead(view, each)]
    if not dead:
        return [_good("running", f"{len(view.running)}, and somebody carries each")]
    names = _names([f"{_named(view, each.run)}{f' (run {each.ours})' if each.ours else ''}" for each in dead])
    words = f"{len(dead)} runs are Running in Prefect, and nobody carries them out: {names}"
    remedy = (
        "fleetpatch reconcile takes up what was left; then end them in the UI (Cancel), or their place stays taken."
    )
    return [Finding("running", FindingLevel.BLOCK, words, remedy)]


def judge_waiting(view: ServerView) -> Sequence[Finding]:
    """Runs that should have started, and runs that were cancelled because another held their place."""
    found = []
    stuck = [each for each in view.pending if view.now - each.state.timestamp > PENDING_TOO_LONG]
    if stuck:
        words = f"{len(stuck)} runs are stuck Pending, and keep later ones from starting: {_run_names(view, stuck)}"
        remedy = "Cancel or delete them in the UI, and see the worker's log for why they did not start."
        found.append(Finding("pending", FindingLevel.BLOCK, words, remedy))
    late = [
        each for each in view.late if each.expected_start_time and view.now - each.expected_start_time > LATE_TOO_LONG
    ]
    if late:
        words = f"{len(late)} runs are late: {_run_names(view, late)}"
        remedy = "Is their worker running, and has its pool room? What starts late patches only in what is left."
        found.append(Finding("late", FindingLevel.WARN, words, remedy))
    for deployment, runs in groupby(sorted(view.limited, key=_deployment), key=_deployment):
        some = list(runs)
        if len(some) > 1 or stuck:
            words = (
                f"{len(some)} runs of one deployment were cancelled as another held its place: {_run_names(view, some)}"
            )
            name = _deployment_name(view, deployment) or deployment
            remedy = f"Look for a Running or Pending run of that deployment ({name}) which is over, and end it."
            found.append(Finding("limit", FindingLevel.WARN, words, remedy))
    return found or [_good("waiting", "nothing is stuck Pending, late or kept out")]


def judge_missed(view: ServerView) -> Sequence[Finding]:
    """Windows of the last days that no run had, as they are recorded."""
    if not view.missed:
        return [_good("missed", "every window of the last days that is known had its run")]
    last = view.missed[-1]
    words = (
        f"{len(view.missed)} windows of the last days had no run; the last one of {last.configuration}: {last.reason}"
    )
    remedy = f"fleetpatch show {last.run_id}; start a run by hand with window.start, or wait for the next window."
    return [Finding("missed", FindingLevel.WARN, words, remedy)]


JUDGES: tuple[Judge, ...] = (
    judge_version,
    judge_clock,
    judge_database,
    judge_settings,
    judge_scheduler,
    judge_workers,
    judge_zombies,
    judge_waiting,
    judge_missed,
)
"""Every check, in the order in which it is told. Another part of this room adds its own here."""


def judged(view: ServerView) -> tuple[Finding, ...]:
    """Return what a look at the server means."""
    answers = _good("server", f"{view.url} answers")
    return (answers, *(finding for judge in JUDGES for finding in judge(view)))


def _good(check: str, words: str) -> Finding:
    return Finding(check, FindingLevel.GOOD, words)


def _is_due(view: ServerView, each: Upcoming) -> bool:
    """Whether the scheduler should have a run of this schedule by now."""
    changed = each.deployment.updated
    if changed is not None and view.now - changed < SCHEDULER_TURN:
        return False  # it may not have had its turn yet
    return bool(each.fault) or (each.next is not None and each.next - view.now < LOOK_AHEAD)


def _of_pool(view: ServerView, name: str) -> Finding:
    check = f"pool {name}"
    pool = next((each for each in view.pools if each.name == name), None)
    if pool is None:
        return Finding(
            check, FindingLevel.BLOCK, "deployments name it, and it is not there", "fleetpatch deploy makes it."
        )
    if pool.is_paused:
        return Finding(check, FindingLevel.BLOCK, "it is paused", f"prefect work-pool resume {name}")
    if pool.concurrency_limit == 0:
        remedy = f"prefect work-pool clear-concurrency-limit {name}"
        return Finding(check, FindingLevel.BLOCK, "its limit is 0: nothing starts", remedy)
    workers = view.workers.get(name, ())
    beats = [each.last_heartbeat_time for each in workers if each.last_heartbeat_time is not None]
    if online := _online(view, name):
        return _good(check, f"online: {_names([each.name for each in online])}")
    last = f"the last was heard of {_ago(view.now - max(beats))} ago" if beats else "there never was one"
    remedy = f"Start one: systemctl start fleetpatch-worker@{name}, or prefect worker start --pool {name}"
    return Finding(check, FindingLevel.BLOCK, f"no worker is online; {last}", remedy)


def _online(view: ServerView, pool: str) -> list[WorkerTold]:
    return [
        each
        for each in view.workers.get(pool, ())
        if each.last_heartbeat_time is not None and view.now - each.last_heartbeat_time <= WORKER_SILENT
    ]


def _is_dead(view: ServerView, each: RunningRun) -> bool:
    match each.carried:
        case Carried.HELD:
            return False
        case Carried.LEFT:
            return True
        case Carried.OVER:  # its report may still be on the way to Prefect
            return view.now - each.run.state.timestamp > RUNNING_SILENT and each.heartbeat is not True
        case Carried.UNTOLD:
            return view.now - each.run.state.timestamp > RUNNING_SILENT and each.heartbeat is False


def _deployment(run: RunTold) -> str:
    return run.deployment_id or ""


def _run_names(view: ServerView, runs: Sequence[RunTold]) -> str:
    return _names([_named(view, each) for each in runs])


def _named(view: ServerView, run: RunTold) -> str:
    """Return a run's name, which Prefect makes up, and that of its deployment, which has the configuration's."""
    of = _deployment_name(view, run.deployment_id)
    return f"{run.name} of {of}" if of else run.name


def _deployment_name(view: ServerView, deployment: str | None) -> str:
    return next((view.deployment_name(each) for each in view.deployments if each.id == deployment), "")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _ago(span: timedelta) -> str:
    minutes = span.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
