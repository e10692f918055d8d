"""Shows what automatic patching does and waits for, in the reader's zone and the machines' zone, or as JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from deployments.preview.automatic_status import AutomaticStatus
from fleetpatch.cli.runtime.output import (
    get_stdout_console,
    print_to_stdout,
    print_warning,
    render_count,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from tasks.domain.assessment import strip_update_id
from tasks.domain.states import Classification
from tasks.records.automatic.opt_outs import OptOut
from tasks.records.feeds.risk_feeds import RiskFeeds, describe_idle_rules, find_idle_rules
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.rules.automatic.deadlines import describe_risk_rule
from tasks.rules.automatic.model import AutomaticPolicy, HeldUpdate, RolloutState, RunPlan, Waiting
from tasks.rules.automatic.progress import MachineStage, PhaseProgress, PhaseStage, RolloutMachine, RolloutProgress
from tasks.rules.calendar.local_time import format_duration, format_zone_abbreviation, get_time_zone

_WIDE_TERMINAL_COLUMNS = 100
_MAX_NAMES = 4
_MAX_RUNS = 12
_MAX_HELD = 20
_STYLES = {
    RolloutState.ROLLING_FORWARD: "cyan",
    RolloutState.COMPLETED: "green",
    RolloutState.FAULTED: "bold red",
    RolloutState.CANCELLED: "yellow",
}
_STAGE_STYLES = {
    PhaseStage.DONE: "green",
    PhaseStage.RUNNING: "cyan",
    PhaseStage.SOAKING: "cyan",
    PhaseStage.WAITING: "dim",
    PhaseStage.STOPPED: "bold red",
}
_COUNT_STYLES = {
    MachineStage.DONE: "green",
    MachineStage.RUNNING: "cyan",
    MachineStage.FAILED: "bold red",
    MachineStage.LEFT_OUT: "yellow",
}
_URGENT = frozenset({Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM})


def format_day_and_time(moment: datetime) -> str:
    """Return a time in the reader's zone."""
    return f"{moment.astimezone():%a %Y-%m-%d %H:%M}"


def format_window(run: RunPlan, now: datetime) -> str:
    """Return when a run begins by the clock of its machines, and how long its window is."""
    start = run.window_start.astimezone(get_time_zone(run.zone))
    opening = "now" if run.window_start <= now else f"{start:%a %d %b %H:%M} {format_zone_abbreviation(start)}"
    return f"{opening}, {format_duration(run.window_minutes * 60)}"


def _render_stage(progress: PhaseProgress) -> Text:
    text = progress.stage.value
    if progress.stage is PhaseStage.SOAKING and progress.soaks_until is not None:
        text = f"soaking until {progress.soaks_until.astimezone():%a %H:%M}"
    return Text(text, style=_STAGE_STYLES[progress.stage])


def _build_count_fact(stage: MachineStage) -> Fact[PhaseProgress]:
    def render(phase: PhaseProgress) -> Text:
        return render_count(phase.count(stage), _COUNT_STYLES.get(stage, ""))

    return Fact("", render, stage.value, is_number=True)


MACHINE_FACTS: Final[Sequence[Fact[RolloutMachine]]] = (
    Fact("machineName", lambda machine: machine.machine),
    Fact("location", lambda machine: machine.location),
    Fact("state", lambda machine: machine.stage),
    Fact("tries", lambda machine: machine.tries),
    Fact("reason", lambda machine: machine.reason or None),
)
PHASE_FACTS: Final[Sequence[Fact[PhaseProgress]]] = (
    Fact("number", lambda phase: phase.phase.number, "phase", is_number=True),
    Fact(
        "locations",
        lambda phase: phase.phase.locations,
        "locations",
        lambda phase: ", ".join(location or "(no location)" for location in phase.phase.locations),
        wraps=True,
    ),
    Fact("state", lambda phase: phase.stage, "state", _render_stage),
    Fact("startDateTime", lambda phase: phase.phase.started_at),
    Fact("endDateTime", lambda phase: phase.phase.ended_at),
    Fact("soaksUntilDateTime", lambda phase: phase.soaks_until),
    Fact("counts", lambda phase: {stage.value: phase.count(stage) for stage in MachineStage}),
    Fact("machines", lambda phase: build_list_json(MACHINE_FACTS, phase.machines)),
    *map(_build_count_fact, MachineStage),
)
WAITING_FACTS: Final[Sequence[Fact[Waiting]]] = (
    Fact("machineName", lambda waiting: waiting.machine, "machine"),
    Fact("reason", lambda waiting: waiting.reason, "waits for", wraps=True),
    Fact(
        "until",
        lambda waiting: waiting.until,
        "until",
        lambda waiting: format_day_and_time(waiting.until) if waiting.until else NO_FIGURE,
    ),
)
PAUSE_FACTS: Final[Sequence[Fact[OptOut]]] = (
    Fact("scope", lambda pause: pause.scope, "scope", wraps=True),
    Fact("who", lambda pause: pause.who, "who", wraps=True),
    Fact("reason", lambda pause: pause.reason or None, "reason", lambda pause: pause.reason, wraps=True),
    Fact("at", lambda pause: pause.at),
    Fact(
        "until",
        lambda pause: pause.until,
        "until",
        lambda pause: format_day_and_time(pause.until) if pause.until else "resumed",
    ),
)
HELD_UPDATE_FACTS: Final[Sequence[Fact[HeldUpdate]]] = (
    Fact("patchName", lambda held: held.name, "update", wraps=True),
    Fact("version", lambda held: strip_update_id(held.version), "version", wraps=True),
    Fact("reason", lambda held: held.reason, "why", limit=120, wraps=True),
    Fact("at", lambda held: held.at, "since", lambda held: f"{held.at.astimezone():%Y-%m-%d}"),
    Fact("rollout", lambda held: held.rollout_id or None),
)


def list_run_facts(now: datetime) -> Sequence[Fact[RunPlan]]:
    """Return the facts about each run that is going to start."""
    return (
        Fact("key", lambda run: run.key),
        Fact("rollout", lambda run: run.rollout_id),
        Fact("phase", lambda run: run.phase),
        Fact("", lambda run: format_window(run, now), "window"),
        Fact("location", lambda run: run.location, "location", lambda run: run.location or NO_FIGURE, wraps=True),
        Fact("availabilityZone", lambda run: run.availability_zone or None, "availability zone", wraps=True),
        Fact("", lambda run: run.phase, "phase", is_number=True),
        Fact("", lambda run: len(run.machines), "machines", is_number=True),
        Fact("windowStart", lambda run: run.window_start),
        Fact("windowMinutes", lambda run: run.window_minutes),
        Fact("zone", lambda run: run.zone),
        Fact(
            "machines",
            lambda run: run.machines,
            "names",
            lambda run: ", ".join(shorten_list(run.machines, _MAX_NAMES)),
            "dim",
            wraps=True,
        ),
    )


def print_automatic_status(status: AutomaticStatus, *, show_all: bool = False) -> None:
    """Print everything. ``show_all`` lists every waiting machine."""
    _print_policy(status)
    if not status.view.machines:
        print_warning(
            "No machine of the scope has `owner: managed` in the inventory, so none is patched.", to_stderr=True
        )
    _print_rollout(status.progress)
    _print_next_runs(status.next_runs, status.now)
    _print_waiting(status, show_all=show_all)
    if status.pauses:
        print_to_stdout(Text("Paused by people", style="bold"), build_list_table(PAUSE_FACTS, status.pauses), "")
    if held_updates := status.view.held_updates:
        print_to_stdout(
            Text("Held updates", style="bold"), build_list_table(HELD_UPDATE_FACTS, held_updates[:_MAX_HELD])
        )
        _print_more(len(held_updates) - _MAX_HELD)
        print_to_stdout("", "To try one again: fleetpatch automatic release NAME", "")
    print_feed_problems(status)


def _print_policy(status: AutomaticStatus) -> None:
    policy = status.policy
    paused = sum(bool(machine.opted_out) for machine in status.view.machines)
    unknown = sum(machine.assessed_at is None for machine in status.view.machines)
    kinds = f"updates of the kinds {', '.join(sorted(kind.value for kind in policy.classifications))}"
    kinds = "critical and security updates" if policy.classifications == _URGENT else kinds
    hours = f"{policy.off_peak_start:%H:%M}–{policy.off_peak_end:%H:%M}"  # noqa: RUF001
    parts = [
        f"{format_count(len(status.view.machines), 'managed machine')} of the scope {policy.scope!r}"
        + (f", {paused} paused" if paused else "")
        + (f", {unknown} never assessed" if unknown else ""),
        f"{kinds}, due {format_duration(policy.due_days * 86_400)} after their release",
        f"off-peak hours {hours} by each machine's clock, windows of {format_duration(policy.window_minutes * 60)}",
        f"the next phase begins {format_duration(policy.soak_hours * 3600)} after {policy.success_percent:g} % of one "
        "have succeeded",
    ]
    state = Text("on", style="green") if policy.enabled else Text("off: nothing is started", style="bold yellow")
    print_to_stdout(Text.assemble(("Automatic patching: ", "bold"), state))
    for part in (*parts, *(describe_risk_rule(rule) for rule in policy.risk_rules)):
        print_to_stdout(Text.assemble("  ", to_safe_text(part)))
    print_to_stdout("")


def _print_rollout(progress: RolloutProgress | None) -> None:
    if progress is None:
        print_to_stdout("No rollout yet.", "")
        return
    rollout = progress.rollout
    times = f"since {format_day_and_time(rollout.created_at)}"
    times += f", ended {format_day_and_time(rollout.ended_at)}" if rollout.ended_at else ""
    print_to_stdout(
        Text.assemble(
            ("Rollout ", "bold"),
            to_safe_text(rollout.id, style="bold"),
            ": ",
            (rollout.state.value, _STYLES[rollout.state]),
            f", {format_count(len(rollout.updates), 'update')}, {times}",
        )
    )
    if rollout.message:
        print_to_stdout(Text.assemble("  ", to_safe_text(rollout.message, style=_STYLES[rollout.state])))
    print_to_stdout(build_list_table(PHASE_FACTS, progress.phases), "")


def _print_next_runs(runs: Sequence[RunPlan], now: datetime) -> None:
    if not runs:
        return
    without = [] if any(run.availability_zone for run in runs) else ["availability zone"]
    without += [] if get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS else ["names"]
    table = build_list_table(list_run_facts(now), runs[:_MAX_RUNS], without=without)
    print_to_stdout(Text("Next runs", style="bold"), table)
    _print_more(len(runs) - _MAX_RUNS)
    print_to_stdout("")


def _print_more(count: int) -> None:
    if count > 0:
        print_to_stdout(Text(f"… and {count} more", style="dim"))


def _print_waiting(status: AutomaticStatus, *, show_all: bool) -> None:
    waiting = status.decision.waiting
    if not waiting:
        print_to_stdout("No machine waits.", "")
        return
    print_to_stdout(Text(f"{format_count(len(waiting), 'machine')} wait{'s' * (len(waiting) == 1)}", style="bold"))
    if show_all:
        table = build_list_table(WAITING_FACTS, sorted(waiting, key=lambda machine: machine.machine))
    else:
        facts: Sequence[Fact[tuple[str, Sequence[Waiting]]]] = (
            Fact("", lambda group: len(group[1]), "machines", is_number=True),
            Fact("", lambda group: group[0], "wait for", wraps=True),
            Fact("", lambda group: _join_machines(group[1]), "names", style="dim", wraps=True),
        )
        table = build_list_table(facts, status.waiting_by_reason)
    print_to_stdout(table, "")


def _join_machines(waiting: Sequence[Waiting]) -> str:
    return ", ".join(shorten_list(sorted(machine.machine for machine in waiting), _MAX_NAMES))


def print_feed_problems(status: AutomaticStatus) -> None:
    """Print what is wrong with risk feeds: a deadline that is not shortened must not go unnoticed."""
    for problem in (*map(str, status.feeds.problems), *describe_idle_rules(status.policy.risk_rules, status.feeds)):
        print_warning(problem, to_stderr=True)


def build_automatic_json(status: AutomaticStatus) -> dict[str, object]:
    """Return the status as JSON data. It has every waiting machine."""
    return {
        "at": format_iso_utc(status.now),
        "policy": _build_policy_json(status.policy),
        "machineCount": len(status.view.machines),
        "rollout": _build_rollout_json(status.progress) if status.progress else None,
        "nextRuns": build_list_json(list_run_facts(status.now), status.next_runs),
        "waiting": build_list_json(WAITING_FACTS, status.decision.waiting),
        "paused": build_list_json(PAUSE_FACTS, status.pauses),
        "heldUpdates": build_list_json(HELD_UPDATE_FACTS, status.view.held_updates),
        "feeds": _build_feeds_json(status.policy, status.feeds),
    }


def _build_policy_json(policy: AutomaticPolicy) -> dict[str, object]:
    return {
        "enabled": policy.enabled,
        "scope": policy.scope,
        "classifications": sorted(classification.value for classification in policy.classifications),
        "offPeakStart": f"{policy.off_peak_start:%H:%M}",
        "offPeakEnd": f"{policy.off_peak_end:%H:%M}",
        "windowMinutes": policy.window_minutes,
        "dueDays": policy.due_days,
        "successPercent": policy.success_percent,
        "soakHours": policy.soak_hours,
        "maxTries": policy.max_tries,
        "riskRules": [describe_risk_rule(rule) for rule in policy.risk_rules],
    }


def _build_rollout_json(progress: RolloutProgress) -> dict[str, object]:
    rollout = progress.rollout
    return {
        "id": rollout.id,
        "state": rollout.state.value,
        "message": rollout.message or None,
        "createdDateTime": format_iso_utc(rollout.created_at),
        "endDateTime": format_iso_utc(rollout.ended_at),
        "updates": [
            {"patchName": name, "version": strip_update_id(version)} for name, version in sorted(rollout.updates)
        ],
        "phases": build_list_json(PHASE_FACTS, progress.phases),
    }


def _build_feeds_json(policy: AutomaticPolicy, feeds: RiskFeeds) -> dict[str, object]:
    """Return the used feeds, the refused ones, and the rules without their feed as JSON data."""
    return {
        "files": [
            {"file": str(file.path), "kind": file.kind.value, "at": format_iso_utc(file.at)} for file in feeds.files
        ],
        "problems": [
            {"file": problem.file, "message": problem.message, "hint": problem.hint or None}
            for problem in feeds.problems
        ],
        "idleRules": [
            {"rule": describe_risk_rule(policy.risk_rules[number - 1]), "missing": [kind.value for kind in kinds]}
            for number, kinds in find_idle_rules(policy.risk_rules, feeds).items()
        ],
    }
