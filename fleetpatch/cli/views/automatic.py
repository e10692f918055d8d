"""Prints what automatic patching does and waits for. Times are in the reader's zone, windows in the machines' zone."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from deployments.preview.automatic_status import AutomaticStatus
from fleetpatch.cli.runtime.output import (
    get_stdout_console,
    print_to_stderr,
    print_to_stdout,
    render_count,
    shorten_list,
    to_safe_text,
)
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from tasks.domain.states import Classification
from tasks.records.automatic.opt_outs import OptOut
from tasks.records.feeds.risk_feeds import describe_idle_rules
from tasks.reports.formatting import NO_FIGURE, format_count
from tasks.rules.automatic.deadlines import describe_risk_rule
from tasks.rules.automatic.model import HeldUpdate, Rollout, RolloutState, RunPlan, Waiting
from tasks.rules.automatic.progress import MachineStage, PhaseProgress, PhaseStage, RolloutProgress
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
_URGENT = frozenset({Classification.CRITICAL, Classification.SECURITY, Classification.SECURITY_ESM})


def print_automatic_status(status: AutomaticStatus, *, show_all: bool = False) -> None:
    """Print everything. ``show_all`` lists every waiting machine."""
    _print_policy(status)
    if not status.view.machines:
        print_to_stderr(
            Text.assemble(
                ("! ", "yellow"), "No machine of the scope has `owner: managed` in the inventory, so none is patched."
            )
        )
    _print_rollout(status.progress)
    _print_next_runs(status.next_runs, status.now)
    _print_waiting(status, show_all=show_all)
    _print_pauses(status.pauses)
    _print_held(status.view.held_updates)
    print_feed_problems(status)


def _print_policy(status: AutomaticStatus) -> None:
    policy = status.policy
    paused = sum(bool(machine.opted_out) for machine in status.view.machines)
    unknown = sum(machine.assessed_at is None for machine in status.view.machines)
    kinds = (
        "critical and security updates" if policy.classifications == _URGENT else _list_kinds(policy.classifications)
    )
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


def _list_kinds(classifications: frozenset[Classification]) -> str:
    return f"updates of the kinds {', '.join(sorted(classification.value for classification in classifications))}"


def _print_rollout(progress: RolloutProgress | None) -> None:
    if progress is None:
        print_to_stdout("No rollout yet.", "")
        return
    rollout = progress.rollout
    print_to_stdout(
        Text.assemble(
            ("Rollout ", "bold"),
            to_safe_text(rollout.id, style="bold"),
            ": ",
            (rollout.state.value, _STYLES[rollout.state]),
            f", {format_count(len(rollout.updates), 'update')}, {_describe_rollout_times(rollout)}",
        )
    )
    if rollout.message:
        print_to_stdout(Text.assemble("  ", to_safe_text(rollout.message, style=_STYLES[rollout.state])))
    grid = build_table(
        build_number_column("phase"),
        "locations",
        build_unwrapped_column("state"),
        *(build_number_column(stage.value) for stage in MachineStage),
    )
    for phase in progress.phases:
        grid.add_row(
            str(phase.phase.number),
            to_safe_text(", ".join(location or "(no location)" for location in phase.phase.locations)),
            Text(_describe_stage(phase), style=_STAGE_STYLES[phase.stage]),
            render_count(phase.count(MachineStage.DONE), "green"),
            render_count(phase.count(MachineStage.RUNNING), "cyan"),
            render_count(phase.count(MachineStage.FAILED), "bold red"),
            render_count(phase.count(MachineStage.WAITING)),
            render_count(phase.count(MachineStage.LEFT_OUT), "yellow"),
        )
    print_to_stdout(grid, "")


def _describe_rollout_times(rollout: Rollout) -> str:
    since = f"since {format_day_and_time(rollout.created_at)}"
    return f"{since}, ended {format_day_and_time(rollout.ended_at)}" if rollout.ended_at else since


def _describe_stage(progress: PhaseProgress) -> str:
    if progress.stage is PhaseStage.SOAKING and progress.soaks_until is not None:
        return f"soaking until {progress.soaks_until.astimezone():%a %H:%M}"
    return progress.stage.value


def _print_next_runs(runs: Sequence[RunPlan], now: datetime) -> None:
    if not runs:
        return
    print_to_stdout(Text("Next runs", style="bold"))
    has_zones = any(run.availability_zone for run in runs)
    is_wide = get_stdout_console().width >= _WIDE_TERMINAL_COLUMNS
    grid = build_table(
        build_unwrapped_column("window"),
        "location",
        *(["availability zone"] if has_zones else []),
        build_number_column("phase"),
        build_number_column("machines"),
        *(["names"] if is_wide else []),
    )
    for run in runs[:_MAX_RUNS]:
        names = ", ".join(shorten_list(run.machines, _MAX_NAMES))
        grid.add_row(
            Text(format_window(run, now)),
            to_safe_text(run.location or NO_FIGURE),
            *([to_safe_text(run.availability_zone or NO_FIGURE)] if has_zones else []),
            str(run.phase),
            str(len(run.machines)),
            *([to_safe_text(names, style="dim")] if is_wide else []),
        )
    print_to_stdout(grid)
    if len(runs) > _MAX_RUNS:
        print_to_stdout(Text(f"… and {len(runs) - _MAX_RUNS} more", style="dim"))
    print_to_stdout("")


def format_window(run: RunPlan, now: datetime) -> str:
    """Return when a run begins by the clock of its machines, and how long its window is."""
    start = run.window_start.astimezone(get_time_zone(run.zone))
    when = "now" if run.window_start <= now else f"{start:%a %d %b %H:%M} {format_zone_abbreviation(start)}"
    return f"{when}, {format_duration(run.window_minutes * 60)}"


def _print_waiting(status: AutomaticStatus, *, show_all: bool) -> None:
    waiting = status.decision.waiting
    if not waiting:
        print_to_stdout("No machine waits.", "")
        return
    print_to_stdout(Text(f"{format_count(len(waiting), 'machine')} wait{'s' * (len(waiting) == 1)}", style="bold"))
    if show_all:
        grid = build_table(build_unwrapped_column("machine"), "waits for", build_unwrapped_column("until"))
        for waiting_machine in sorted(waiting, key=lambda one: one.machine):
            grid.add_row(
                to_safe_text(waiting_machine.machine),
                to_safe_text(waiting_machine.reason),
                Text(_format_until(waiting_machine)),
            )
    else:
        grid = build_table(build_number_column("machines"), "wait for", "names")
        for reason, members in status.waiting_by_reason:
            names = ", ".join(shorten_list(sorted(member.machine for member in members), _MAX_NAMES))
            grid.add_row(str(len(members)), to_safe_text(reason), to_safe_text(names, style="dim"))
    print_to_stdout(grid, "")


def _format_until(waiting: Waiting) -> str:
    return format_day_and_time(waiting.until) if waiting.until else NO_FIGURE


def _print_pauses(pauses: Sequence[OptOut]) -> None:
    if not pauses:
        return
    print_to_stdout(Text("Paused by people", style="bold"))
    grid = build_table("scope", "who", "reason", build_unwrapped_column("until"))
    for pause in pauses:
        until = format_day_and_time(pause.until) if pause.until else "resumed"
        grid.add_row(to_safe_text(pause.scope), to_safe_text(pause.who), to_safe_text(pause.reason), Text(until))
    print_to_stdout(grid, "")


def _print_held(held: Sequence[HeldUpdate]) -> None:
    if not held:
        return
    print_to_stdout(Text("Held updates", style="bold"))
    grid = build_table("update", "version", "why", build_unwrapped_column("since"))
    for held_update in held[:_MAX_HELD]:
        grid.add_row(
            to_safe_text(held_update.name),
            to_safe_text(held_update.version),
            to_safe_text(held_update.reason, limit=120),
            Text(f"{held_update.at.astimezone():%Y-%m-%d}"),
        )
    print_to_stdout(grid)
    if len(held) > _MAX_HELD:
        print_to_stdout(Text(f"… and {len(held) - _MAX_HELD} more", style="dim"))
    print_to_stdout("", "To try one again: fleetpatch automatic release NAME", "")


def print_feed_problems(status: AutomaticStatus) -> None:
    """Print what is wrong with risk feeds: a deadline that is not shortened must not go unnoticed."""
    for problem in (*map(str, status.feeds.problems), *describe_idle_rules(status.policy.risk_rules, status.feeds)):
        print_to_stderr(Text.assemble(("! ", "yellow"), to_safe_text(problem)))


def format_day_and_time(moment: datetime) -> str:
    """Return a time in the reader's zone."""
    return f"{moment.astimezone():%a %Y-%m-%d %H:%M}"
