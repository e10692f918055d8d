"""What must hold whatever happened: asked of the machines themselves, and compared with what was reported of them."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from flows.request.patch_request import PatchRequest
from tasks.domain.model import Outcome, RunInfo, UpdateResult
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, RebootState, Step, UpdateState
from tasks.records.measures import compute_weighted_mean
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK, PENDING_REBOOT_CHECK
from tasks.rules.runs.reboot_decision import REBOOT_MEASURE, compute_reboot_reserve
from tasks.steps.context.journal import MACHINE_CHANGING_ACTS
from tasks.steps.machine.auto_updaters import PAUSE_ACT as PAUSE
from tasks.steps.machine.facts import MAX_ROUND_TRIP_SECONDS
from tasks.steps.machine.machine_lock import IDLE_LOCK_DURATION
from tests.faults.budget_checks import budget_kept
from tests.faults.copies import list_rehearsed_measures
from tests.faults.hub import START
from tests.faults.kinds import BREAKING, CLOCKS
from tests.faults.late_jobs import PATIENCE
from tests.faults.machine import FaultyMachine
from tests.faults.orders import Handed
from tests.faults.services import restarts, untold
from tests.faults.world import World
from tests.support.reboot_guard import HOLDER

SLACK = timedelta(milliseconds=200)  # a clock's difference is measured over a line that takes its time
HEARD = timedelta(seconds=30)  # a lease is renewed every 5 s, a quiet job looked at every 10
JUMPS = frozenset({"controller's clock jumps", "machine's clock jumps", "machine's clock set back"})
DEAFENING = frozenset(
    {
        "records unavailable",
        "records unavailable for good",
        "answer of the records lost",
        "connection lost",
        "unreachable for good",
    }
    | {
        "controller frozen",
        "order in transit",
        "start of a job stalls",
        "sshd restarted",
        "login refused for a while",
        "power cut",
        "other host key",
    }
)
"""Faults that keep a wish to stop from being heard in time."""
AFTER_REBOOT = "remove"
"""The work of jobs after which there is no reboot any more, so that no time is kept for one."""
UNDONE = (UpdateState.NOT_ATTEMPTED, UpdateState.FAILED, UpdateState.PENDING)


def outcome_is_true(world: World, outcome: Outcome) -> None:
    """Compare an outcome with its machine, at the very moment that it is stored."""
    machine = world.machines.get(outcome.machine)
    if machine is None:
        return
    in_doubt = outcome.error is not None or any(r.state is UpdateState.PENDING for r in outcome.updates)
    if not in_doubt:
        machine.over_for.add(outcome.run_id)
    for fault in (
        *_updates(world, outcome, machine),
        *_standing(world, outcome, machine),
        *untold(world, outcome, machine),
    ):
        world.complain(f"{outcome.machine}, outcome {outcome.state}: {fault}")


def _updates(world: World, outcome: Outcome, machine: FaultyMachine) -> Iterator[str]:
    others = {package.id: package.installed for package in machine.world.half_done}  # as they were, and will be
    there = {**machine.world.whole(), **others, **world.hypervisor.find_image(machine.name)}
    alone = len({each.run_id for each in world.controllers}) == 1
    told = Counter(result.update.id for result in outcome.updates)
    if max(told.values(), default=1) > 1:
        yield f"an update has two results: {told}"
    for result in outcome.updates:
        name, now = result.update.id, there.get(result.update.id)
        if result.state is UpdateState.INSTALLED:
            if now != result.version_after:
                yield f"{name} is reported as installed at {result.version_after}, and the machine has {now}"
            continue
        if not result.reason:
            yield f"{name} is {result.state} without a reason"
        if outcome.error is None and result.state is not UpdateState.PENDING and alone:
            yield from _not_installed(outcome, result, now, name in others)


_OF_A_COPY = "the rehearsal on a copy of "
"""How a reason begins that tells of a copy of the machine, not of the machine."""


def _not_installed(outcome: Outcome, result: UpdateResult, now: str | None, others_has_it: bool) -> Iterator[str]:
    name = result.update.id
    if now is None and any(f"{name} " in each.message for each in outcome.findings if each.level is FindingLevel.BLOCK):
        return  # it broke after its result was read: validation found that, and fails the machine for it
    if "packages were being changed by" in result.reason:
        return  # somebody else was at work when we looked: it could not be judged, and the report says so
    told_that_it_stays = "its disk before is not back" in result.reason and result.version_after == now
    if result.state is UpdateState.FAILED and now == result.update.available and not told_that_it_stays:
        yield f"{name} is reported as failed, and it is installed"
    if others_has_it and "left half-configured" in result.reason and not result.reason.startswith(_OF_A_COPY):
        yield f"{name} is reported as {result.state}, while another process is changing it: {result.reason}"
    if result.state is not UpdateState.FAILED and now != result.update.installed:
        yield f"{name} is reported as {result.state} at {result.update.installed}, and the machine has {now}"


def _standing(world: World, outcome: Outcome, machine: FaultyMachine) -> Iterator[str]:
    if outcome.error is not None and outcome.error.kind == "InternalError":
        yield f"a defect of fleetpatch:  {outcome.error.message}"
    told = any(each.check == AUTO_UPDATER_CHECK and each.level is FindingLevel.WARN for each in outcome.findings)
    if machine.rests_for == outcome.run_id and not told:
        yield "its own updaters are still paused, and the report does not say so"
    if world.records.runs[outcome.run_id].kind == "patch":
        yield from (*_left_in_order(outcome, machine), *_rebooted(world, outcome, machine))
    last = outcome.reboot_result
    if outcome.reboot is RebootState.COMPLETED:
        result = outcome.reboot_result
        same = result is not None and result.count and result.boot_id_after == result.boot_id_before
        if same or not machine.downs:
            yield f"the report says that it was rebooted: {result}"
    came_back = last is not None and last.count and last.boot_id_after == machine.boot_id
    if machine.booted_read_only and came_back and outcome.state is not OperationState.FAILED:
        yield "it came back from its reboot with a root that is read-only, and that is no failure"
    now = machine.fake_clock.now().timestamp() + machine.world.skew_seconds
    ours = machine.locked_by is not None and machine.locked_by[0] == outcome.run_id and machine.locked_by[2] > now
    in_doubt = outcome.error is not None or any(r.state is UpdateState.PENDING for r in outcome.updates)
    if ours and not in_doubt and outcome.run_id not in machine.released_by:
        yield "the machine lock is left behind"
    acts = {entry.act for entry in world.records.journal if entry.machine == outcome.machine}
    left = machine.locked_by[2] - now if machine.locked_by is not None else 0.0
    jumped = {fault.kind for fault in world.struck} & JUMPS
    begun = acts & {*MACHINE_CHANGING_ACTS, PAUSE}  # its own updaters rest as long as the lock that they rest under
    checks = sum(
        probe.timeout_seconds for entry in world.described if entry.name == machine.name for probe in entry.probes
    )
    if ours and left > IDLE_LOCK_DURATION.total_seconds() + checks and not begun and not jumped:
        yield f"nothing was begun, and its lock is kept for {left:.0f} s"


def _left_in_order(outcome: Outcome, machine: FaultyMachine) -> Iterator[str]:
    if outcome.state is OperationState.SUCCEEDED:
        undone = [result.update.id for result in outcome.updates if result.state in UNDONE]
        others = {package.id for package in machine.world.half_done}  # begun after our last look, or it was not judged
        broken = [package.id for package in machine.world.shelf.unfinished() if package.id not in others]
        if undone or broken:
            yield f"its packages are not in order: undone {undone}, broken {broken}"


def _rebooted(world: World, outcome: Outcome, machine: FaultyMachine) -> Iterator[str]:
    """Each reboot that was not done is told. A remark is enough if the run may not reboot and installs nothing."""
    last = outcome.reboot_result
    if outcome.reboot is RebootState.REQUIRED and outcome.state is OperationState.SUCCEEDED:
        request = PatchRequest.model_validate(dict(world.records.runs[outcome.run_id].request))
        installed = any(result.state is UpdateState.INSTALLED for result in outcome.updates)
        told = {(finding.check, finding.level) for finding in outcome.findings}
        if request.reboot is not RebootPolicy.NEVER or installed:
            yield "a reboot is required and was not done, and there is no warning"
        elif (PENDING_REBOOT_CHECK, FindingLevel.REMARK) not in told:
            yield "a reboot is required, and the report does not say so"
    if last is not None and last.state is RebootState.FAILED and _kept_up(machine, last.reason):
        yield f"others prevent its reboot, and it is reported as failed: {last.reason}"


def _kept_up(machine: FaultyMachine, reason: str) -> bool:
    """Whether others are why a reboot did not take place."""
    return f"refused: {HOLDER}" in reason or ("did not go down" in reason and machine.guard.given_up is not None)


def after(world: World) -> None:
    """Judge a case once all runs are over."""
    for run in world.records.runs.values():
        for fault in (*_run(world, run), *budget_kept(world, run)):
            world.complain(f"run {run.id}: {fault}")
        for machine in world.machines.values():
            for fault in (
                *_window(world, run, machine),
                *_stopped(world, run, machine),
                *_acts(world, run, machine),
                *_blocked(world, run, machine),
                *restarts(world, run, machine),
            ):
                world.complain(f"run {run.id}: {machine.name}: {fault}")
    kinds = {fault.kind for fault in world.struck}
    for machine in world.machines.values():
        twice = {what: count for what, count in Counter(machine.world.shelf.configured).items() if count > 1}
        if twice:
            world.complain(f"{machine.name}: configured more than once: {twice}")
        if machine.orders.killed:
            world.complain(f"{machine.name}: jobs were killed: {machine.orders.killed}")
        if machine.rests_for:
            world.complain(
                f"{machine.name}: its own updaters are still paused, hours after the lock of {machine.rests_for}"
            )
        broken = machine.world.shelf.broken()
        if broken and not kinds & {*BREAKING, "repair needed"}:
            world.complain(f"{machine.name}: left half-configured: {broken}")


def _run(world: World, run: RunInfo) -> Iterator[str]:
    if run.state in (OperationState.IN_PROGRESS, OperationState.UNKNOWN):
        yield f"it is still {run.state}"
    told = Counter(outcome.machine for outcome in world.report(run.id).outcomes)
    if told != Counter(world.in_scope(run.scope)):
        yield f"its outcomes are of {dict(told)}"
    downloads = [each.id for each in world.records.runs.values() if each.kind == "stage" and run.kind == "patch"]
    for outcome in world.report(run.id).outcomes:
        kept_away = outcome.state is OperationState.NOT_STARTED and any(each in outcome.reason for each in downloads)
        if kept_away and "its end was not awaited" not in outcome.reason:  # as no time was left, or it was to stop
            yield f"a download kept it from {outcome.machine}: {outcome.reason}"


def _window(world: World, run: RunInfo, machine: FaultyMachine) -> Iterator[str]:
    """Nothing was begun that the window could not hold, by the machine's own clock and by the true time."""
    request, window = PatchRequest.model_validate(dict(run.request)), run.window
    if window is None:
        return
    reserve = timedelta(minutes=request.reboot_reserve_minutes)
    never = request.reboot is RebootPolicy.NEVER or request.download_only
    needed = _needed(world, machine, reserve)
    until = window.end if never else max(window.start, window.end - max(reserve, needed))
    known_to = timedelta(seconds=MAX_ROUND_TRIP_SECONDS / 2)  # of the machine's clock
    until, until_end = until + known_to, window.end + known_to
    kinds = {fault.kind for fault in world.struck}
    honest = not any(group <= kinds for group in CLOCKS)
    # after the reboot the machine's clock is trusted, as after a power cut
    bounds = {False: (until, honest), True: (until_end, honest and not kinds & JUMPS)}
    handed = {each.job.id: each for each in machine.orders.jobs if each.run_id == run.id}
    for begun in machine.begun():
        if begun.job_id not in handed:
            continue
        latest = float(str(handed[begun.job_id].job.script.params[f"tx_{begun.number}_latest_start"]))
        if begun.at.timestamp() + handed[begun.job_id].skew > latest + SLACK.total_seconds():
            yield f"{begun} began after its latest start"
        ends = begun.at + _predicted(world, machine, begun.job_id, begun.number)
        last, is_honest = bounds[begun.work == AFTER_REBOOT]
        latest_end = last + SLACK + timedelta(seconds=MAX_ROUND_TRIP_SECONDS / 2)
        if is_honest and not window.start - SLACK <= begun.at <= ends <= latest_end:
            span = f"began at {begun.at:%H:%M:%S}, to end at {ends:%H:%M:%S}"
            yield f"{begun.work} {begun.number} {span}; it had until {last:%H:%M:%S}"
    for each in handed.values() if honest else ():
        last, is_honest = bounds[each.job.script.params["work"] == AFTER_REBOOT]
        if is_honest:
            yield from _too_generous(world, machine, each, last)
        yield from _downloads(machine, each, until)
    for at, run_id, _ in machine.orders.reboots:
        if run_id == run.id and honest and not window.start <= at <= window.end - needed + SLACK:
            yield f"it was ordered to reboot at {at:%H:%M:%S}; the window ends at {window.end:%H:%M:%S}"


def _needed(world: World, machine: FaultyMachine, reserve: timedelta) -> timedelta:
    """Return the least that a reboot of a machine needed at any moment, by what was known of earlier ones."""
    samples = sorted(
        (when, run_id, value)
        for (run_id, name, measure), (when, value) in world.records.samples.items()
        if (name, measure) == (machine.name, REBOOT_MEASURE)
    )
    first = 1 if samples and samples[0][1] == "before" else 0
    known = [
        compute_weighted_mean([value for _, _, value in samples[:count]]) for count in range(first, len(samples) + 1)
    ]
    known += list_rehearsed_measures(world, machine.name, REBOOT_MEASURE)
    return timedelta(seconds=min(compute_reboot_reserve(reserve.total_seconds(), each) for each in known))


def _too_generous(world: World, machine: FaultyMachine, handed: Handed, until: datetime) -> Iterator[str]:
    """What the machine was told, in its own clock, is what the window holds; whether or not it came to that."""
    params = handed.job.script.params
    for number in params.get("numbers", ()):
        latest = float(str(params[f"tx_{number}_latest_start"]))
        takes = _predicted(world, machine, handed.job.id, int(number)).total_seconds()
        late = latest - (until.timestamp() - takes + handed.skew)
        if late > SLACK.total_seconds():
            yield f"job {handed.job.id} may begin its transaction {number} {late:.1f} s too late"


def _downloads(machine: FaultyMachine, handed: Handed, until: datetime) -> Iterator[str]:
    """No download goes on when nothing can be installed any more."""
    started, work = machine._jobs.get(handed.job.id), handed.job.script.params["work"]
    begins = {"stage": "transaction_started", "install": "download_started"}.get(str(work))
    downloading = False
    for seconds, record in started.plan.steps if started else ():
        at = handed.at + timedelta(seconds=seconds)
        if started is not None and started.lost_at is not None and at > started.lost_at:
            return
        if record["kind"] == "progress":
            continue
        if downloading and at > until + SLACK:
            yield f"job {handed.job.id} was downloading until {at:%H:%M:%S}; it had until {until:%H:%M:%S}"
        downloading = record["kind"] == begins


def _passed_on(world: World, run: RunInfo, at: datetime) -> bool:
    """Whether somebody carried the run for long enough before that to tell its jobs: a dead controller tells nobody."""
    return any(
        each.run_id == run.id
        and START < each.since <= at - HEARD  # those that were refused the lease have none of their own
        and (each.died_at is None or each.died_at >= at)
        for each in world.controllers
    )


def _stopped(world: World, run: RunInfo, machine: FaultyMachine) -> Iterator[str]:
    """Nothing was begun once a run was asked to stop, and had the time to hear of it and to pass it on."""
    stop = world.leases.stops.get(run.id)
    if stop is None or any(fault.kind in DEAFENING for fault in world.struck):
        return
    late = any(fault.kind == "job begins late" for fault in world.struck)  # who hands it over waits for that
    heard = stop.at + HEARD + timedelta(seconds=PATIENCE if late else 0.0)
    handed = {each.job.id for each in machine.orders.jobs if each.run_id == run.id}
    for begun in machine.begun():
        if begun.job_id in handed and begun.at > heard and _passed_on(world, run, begun.at):
            yield f"{begun.work} {begun.number} began at {begun.at:%H:%M:%S}; it had to stop at {stop.at:%H:%M:%S}"
    for at, unit, job_id in machine.world.services.restarted:
        if job_id in handed and at > heard and _passed_on(world, run, at):
            yield f"{unit} was restarted at {at:%H:%M:%S}; the run had to stop at {stop.at:%H:%M:%S}"
    for at, run_id, _ in machine.orders.reboots:
        if run_id == run.id and at > heard:
            yield f"it was ordered to reboot at {at:%H:%M:%S}; the run had to stop at {stop.at:%H:%M:%S}"


def _predicted(world: World, machine: FaultyMachine, job_id: str, number: int) -> timedelta:
    for entry in world.records.journal:
        if entry.key == job_id and entry.mark is JournalMark.BEFORE and entry.machine == machine.name:
            parts: Any = entry.detail["transactions"]
            return timedelta(seconds=parts[str(number)]["predicted"])
    return timedelta()


def _acts(world: World, run: RunInfo, machine: FaultyMachine) -> Iterator[str]:
    """No act was carried out twice, nor against the request."""
    request = PatchRequest.model_validate(dict(run.request))
    jobs = [each for each in machine.orders.jobs if each.run_id == run.id]
    repairs = {each.job.id for each in jobs if each.job.script.params["work"] == "repair"}
    if len(repairs) > 1 or (repairs and not request.repair):
        yield f"it was repaired: {sorted(repairs)}, allowed: {request.repair}"
    if not machine.has_forgotten:
        twice = {name: n for name, n in Counter(_successes(machine, {each.job.id for each in jobs})).items() if n > 1}
        if twice:
            yield f"transactions succeeded more than once: {twice}"
    boots = [boot for _, run_id, boot in machine.orders.reboots if run_id == run.id]
    planned = 0 if request.reboot is RebootPolicy.NEVER else 1 + request.reboot_pending_first
    (described,) = [each for each in world.described if each.name == machine.name]
    own = described.limits.max_reboots
    cap = min(planned, request.max_reboots if own is None else own)
    if len(set(boots)) > cap:
        yield f"it was rebooted {len(set(boots))} times, and {cap} were planned"


def _blocked(world: World, run: RunInfo, machine: FaultyMachine) -> Iterator[str]:
    """Nothing was even announced on a machine whose last pre-check had blocked."""
    why = ""
    for entry in world.records.journal:
        if (entry.run_id, entry.machine) != (run.id, machine.name):
            continue
        if entry.key == Step.PRECHECK and entry.mark is JournalMark.AFTER:
            findings: Any = entry.detail.get("findings", ())
            blocking = [each["message"] for each in findings if each["level"] == FindingLevel.BLOCK]
            why = blocking[0] if blocking else ""
        elif why and entry.mark is JournalMark.BEFORE:
            yield f"{entry.act} was begun although its pre-check had blocked: {why}"


def _successes(machine: FaultyMachine, jobs: set[str]) -> Iterator[str]:
    """The updates of installing transactions that ended well, one entry for each time."""
    for job_id, started in machine._jobs.items():
        params = started.job.script.params
        until: datetime = started.lost_at or machine.fake_clock.now()
        for seconds, record in started.plan.steps:
            ended = record["kind"] == "transaction_ended" and record["exit_code"] == 0
            at = started.at + timedelta(seconds=seconds)
            if job_id in jobs and params["work"] == "install" and ended and at <= until:
                yield from params[f"tx_{record['number']}_updates"]
