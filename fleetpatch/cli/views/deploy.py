"""Prints the plan of a deploy, or returns it as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from deployments.preview.automatic_status import count_managed_machines, describe_off_peak
from deployments.sync.model import Change, ChangeAction
from deployments.sync.next_windows import NextWindows, WindowRunStatus
from deployments.sync.plan import SyncPlan
from fleetpatch.cli.runtime.output import (
    print_to_stderr,
    print_to_stdout,
    print_unwrapped,
    print_warning,
    to_safe_lines,
    to_safe_text,
)
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.config import ALL_OVER, OVER, print_configuration_finding
from tasks.reports.formatting import format_count
from tasks.rules.calendar.local_time import format_duration, get_time_zone
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.policy.model import Policy

_ACTION_STYLES = {
    ChangeAction.CREATE: "green",
    ChangeAction.UPDATE: "yellow",
    ChangeAction.REMOVE: "red",
    ChangeAction.CANCEL: "red",
    ChangeAction.KEEP: "dim",
}


CHANGE_FACTS: Final[Sequence[Fact[Change]]] = (
    Fact("doing", lambda change: change.action, "", lambda change: Text(change.action, _ACTION_STYLES[change.action])),
    Fact("kind", lambda change: change.kind, "what"),
    Fact("name", lambda change: change.name, "name", wraps=True),
    Fact(
        "differences",
        lambda change: change.differences,
        "difference",
        lambda change: to_safe_lines("\n".join(change.differences)),
        wraps=True,
    ),
)


def print_changes(changes: Sequence[Change]) -> None:
    """Print a table of the changes; none: nothing."""
    if changed := [change for change in changes if change.action is not ChangeAction.KEEP]:
        print_to_stdout(build_list_table(CHANGE_FACTS, changed))


def print_deploy_plan(plan: SyncPlan, findings: Sequence[ConfigurationFinding]) -> None:
    """Print the changes, the pauses that a person set in Prefect and that stay, and the findings that block."""
    unchanged_count = sum(change.action is ChangeAction.KEEP for change in plan.changes)
    print_changes(plan.changes)
    print_to_stdout(f"{unchanged_count} of {len(plan.changes)} Prefect objects match the configurations.")
    for pause in plan.kept_pauses:
        print_warning(f"stays paused, as somebody set in Prefect: {pause}")
    if plan.kept_pauses:
        print_to_stdout("`fleetpatch deploy` asks whether to lift it; --yes --unpause lifts it.")
    for finding in findings:
        print_configuration_finding(finding)
    if findings:
        print_to_stdout("")


@contextmanager
def report_changes(count: int) -> Iterator[Callable[[Change], None]]:
    """Yield the function to call before each change. At the end, print the number of changes, or the failed change."""
    started_changes: list[Change] = []
    try:
        yield started_changes.append
    except Exception:
        if started_changes:
            at = f"{started_changes[-1].action} {started_changes[-1].kind} {started_changes[-1].name}"
            print_to_stderr(
                f"{len(started_changes) - 1} of {format_count(count, 'change')} made; this one failed: {at}. "
                "Deploy again to make the others."
            )
        raise
    print_to_stderr(f"{format_count(count, 'change')} made.")


def print_remarks(plan: SyncPlan, *, is_policy_recorded: bool) -> None:
    """Print to stderr what is not right, although Prefect and the configurations may agree."""
    if not is_policy_recorded:
        print_to_stderr("The policy is not the one that was deployed last: runs begin when it is deployed.")
    if plan.is_over:
        print_to_stderr(ALL_OVER)


def print_recorded_policy(policy: Policy) -> None:
    """Print which policy holds from now on."""
    if not policy.files:
        print_to_stderr("The policy was removed: runs are held by none any more.")
        return
    files = ", ".join(file.path for file in policy.files)
    print_to_stderr(f"Every process that patches must read this policy now, or begins no run: {files}")


def print_next_windows(
    plan: SyncPlan, next_windows: Sequence[NextWindows], run_statuses: Mapping[str, WindowRunStatus], now: datetime
) -> None:
    """Print when the next windows open, and which windows Prefect will not start. Statuses are by deployment."""
    for next_window in next_windows:
        print_to_stdout(
            _render_next_windows(next_window, run_statuses.get(next_window.deployment, WindowRunStatus.NONE), now)
        )
    for configuration in plan.configurations.all_configurations:
        if not configuration.is_enabled:
            print_to_stdout(to_safe_text(f"{configuration.name}: disabled, its windows do not open", style="dim"))
    if (automatic := plan.configurations.automatic) is not None:
        managed = count_managed_machines(automatic, plan.inventories.get(AUTOMATIC_NAME))
        count = f", {format_count(managed, 'managed machine')}" if managed is not None else ""
        description = f"{describe_off_peak(automatic)}; decides every 15 minutes: fleetpatch automatic"
        if not automatic.enabled:
            description = "disabled: it shows what it would do, and starts nothing"
        print_to_stdout(Text.assemble(to_safe_text(AUTOMATIC_NAME, "bold"), to_safe_text(f"{count}: {description}")))
    date_ends = [
        line.until for deployment in plan.desired.deployments for line in deployment.schedules if line.until is not None
    ]
    if date_ends:
        until = f"Prefect has dates until {min(date_ends).astimezone(UTC):%Y-%m-%d}."
        print_to_stdout(f"{until} The flow refresh-schedules writes later ones.")
    for next_window in next_windows:
        if next_window.due_window is not None and run_statuses.get(next_window.deployment) is WindowRunStatus.NONE:
            _print_missed_run(next_window, next_window.due_window)
    if plan.is_over:
        print_warning(ALL_OVER)


def print_run_location(pools: Sequence[str], ui_url: str | None, *, serve: bool) -> None:
    """Print where to see the runs, and which workers execute them. The first pool is that of the default site."""
    pool, *others = pools
    executed = f"Workers of the work pool {pool} execute the runs. `fleetpatch deploy --serve` starts one."
    executed = f"A worker of the work pool {pool} runs here until Ctrl-C." if serve else executed
    if others:
        executed += f" The runs of other sites wait for workers of their own work pools: {', '.join(others)}."
    print_unwrapped(f"{executed} See them at {ui_url}" if ui_url else executed)


def _render_next_windows(next_windows: NextWindows, run_status: WindowRunStatus, now: datetime) -> Text:
    name = next_windows.deployment.partition("/")[2]
    text = Text.assemble(to_safe_text(name, style="bold"), f", {format_count(next_windows.machine_count, 'machine')}: ")
    windows = []
    if next_windows.due_window is not None and run_status is not WindowRunStatus.NONE:
        due = next_windows.due_window.start - next_windows.lead > now
        state = "starts" if due else "has started" if run_status is WindowRunStatus.STARTED else "waits for a worker"
        windows.append(f"{_format_window(next_windows.due_window, next_windows)}, its run {state}")
    if next_windows.next_window is not None:
        lead = (
            f", its run starts {format_duration(next_windows.lead.total_seconds())} before" if next_windows.lead else ""
        )
        ahead = format_duration((next_windows.next_window.start - now).total_seconds())
        windows.append(f"next window {_format_window(next_windows.next_window, next_windows)}, in {ahead}{lead}")
    if not windows:
        windows.append(OVER if next_windows.is_over else "no later window")
    return text.append_text(to_safe_text("; ".join(windows)))


def _print_missed_run(next_windows: NextWindows, window: Occurrence) -> None:
    due = (window.start - next_windows.lead).astimezone(get_time_zone(next_windows.zone))
    print_warning(
        f"{next_windows.configuration.name}: Prefect starts no run for the window "
        f"{_format_window(window, next_windows)}: the run was due at {due:%H:%M}, and Prefect makes no runs in "
        "the past. To use the rest of the window, start the run:"
    )
    print_unwrapped(f"  {next_windows.start_command}")


def _format_window(window: Occurrence, next_windows: NextWindows) -> str:
    start, end = (moment.astimezone(get_time_zone(next_windows.zone)) for moment in (window.start, window.end))
    until = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%a %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {until} {next_windows.zone}"


def build_plan_json(
    plan: SyncPlan, findings: Sequence[ConfigurationFinding], *, is_policy_recorded: bool
) -> dict[str, object]:
    """Return the changes and the findings as JSON data. ``is_policy_recorded``: see ``policy_record``."""
    facts: Sequence[Fact[ConfigurationFinding]] = (
        Fact("configuration", lambda finding: finding.configuration),
        Fact("key", lambda finding: finding.key),
        Fact("message", lambda finding: finding.message),
        Fact("remedy", lambda finding: finding.remedy),
    )
    return {
        "up_to_date": plan.is_up_to_date and is_policy_recorded,
        "policy_recorded": is_policy_recorded,
        "over": plan.is_over,
        "kept_pauses": list(plan.kept_pauses),
        "changes": build_list_json(CHANGE_FACTS, plan.changes),
        "faults": build_list_json(facts, findings),
    }
