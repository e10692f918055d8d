"""Prints the plan of a deploy, or returns it as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import typer
from rich.table import Column
from rich.text import Text

from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from deployments.preview.automatic_status import count_managed_machines, describe_off_peak
from deployments.sync.model import Change, ChangeAction
from deployments.sync.next_windows import NextWindows, RunStatus
from deployments.sync.plan import SyncPlan
from fleetpatch.cli.runtime.output import (
    ask,
    can_ask,
    get_stderr_console,
    get_stdout_console,
    print_to_stderr,
    print_to_stdout,
    to_safe_lines,
    to_safe_text,
)
from fleetpatch.cli.runtime.table import build_table
from fleetpatch.cli.views.config import ALL_OVER, OVER, print_finding, print_warning
from flows.request.automatic_request import AutomaticRequest
from inventory.machine import Inventory
from tasks.domain.errors import RequestError
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


def print_changes(changes: Sequence[Change]) -> None:
    """Print the changes. Unchanged objects are counted in one line."""
    unchanged_count = sum(change.action is ChangeAction.KEEP for change in changes)
    _print_changed(changes)
    print_to_stdout(to_safe_text(f"{unchanged_count} of {len(changes)} Prefect objects match the configurations."))


def print_removals(changes: Sequence[Change], fleet: str) -> None:
    """Print what would be removed of a fleet."""
    _print_changed(changes)
    if not changes:
        print_to_stdout(to_safe_text(f"Prefect has nothing of the fleet {fleet}."))


def print_kept_objects(pool: str) -> None:
    """Print what deploy does not remove."""
    print_to_stderr(
        f"The work pool {pool}, finished flow runs, Secret blocks and the records stay (docs/how-to/uninstall.md)."
    )


def _print_changed(changes: Sequence[Change]) -> None:
    if any(change.action is not ChangeAction.KEEP for change in changes):
        grid = build_table(
            Column("", no_wrap=True), Column("what", no_wrap=True), "name", Column("difference", ratio=1)
        )
        for change in changes:
            if change.action is not ChangeAction.KEEP:
                differences = to_safe_lines("\n".join(change.differences))
                grid.add_row(
                    to_safe_text(change.action, _ACTION_STYLES[change.action]),
                    to_safe_text(change.kind),
                    to_safe_text(change.name),
                    differences,
                )
        print_to_stdout(grid)


def print_kept_pauses(pauses: Sequence[str]) -> None:
    """Print the pauses that a person set in Prefect and that stay."""
    for pause in pauses:
        print_to_stdout(
            Text.assemble(("! ", "yellow"), to_safe_text(f"stays paused, as somebody set in Prefect: {pause}"))
        )
    if pauses:
        print_to_stdout("`fleetpatch deploy` asks whether to lift it; --yes --unpause lifts it.")


def print_blocking_findings(findings: Sequence[ConfigurationFinding]) -> None:
    """Print the findings that prevent the deploy."""
    for finding in findings:
        print_finding(finding)
    if findings:
        print_to_stdout("")


def confirm_changes(count: int) -> None:
    """Ask the person at the terminal for confirmation.

    Raises:
        RequestError: there is no terminal.
    """
    if not can_ask():
        raise RequestError(
            f"{format_count(count, 'change')} in Prefect must be confirmed, and there is no terminal",
            hint="Add --yes to confirm them, or --check to see what differs.",
        )
    if not ask(f"Make {'this change' if count == 1 else f'these {count} changes'}?"):
        get_stderr_console().print("Nothing was done.")
        raise typer.Exit(0)


@contextmanager
def report_progress(count: int) -> Iterator[Callable[[Change], None]]:
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
    plan: SyncPlan, next_windows: Sequence[NextWindows], run_statuses: Mapping[str, RunStatus], now: datetime
) -> None:
    """Print when the next windows open, and which windows Prefect will not start.

    Args:
        plan: the deployed plan.
        next_windows: the next windows of each configuration.
        run_statuses: the status of the run of each due window, by deployment.
        now: the present time, aware.
    """
    for next_window in next_windows:
        print_to_stdout(
            _render_next_windows(next_window, run_statuses.get(next_window.deployment, RunStatus.NONE), now)
        )
    for configuration in plan.configurations.all_configurations:
        if not configuration.is_enabled:
            print_to_stdout(to_safe_text(f"{configuration.name}: disabled, its windows do not open", style="dim"))
    if (automatic := plan.configurations.automatic) is not None:
        print_to_stdout(_render_automatic(automatic, plan.inventories.get(AUTOMATIC_NAME)))
    date_ends = [
        line.until for deployment in plan.desired.deployments for line in deployment.schedules if line.until is not None
    ]
    if date_ends:
        print_to_stdout(
            to_safe_text(
                f"Prefect has dates until {min(date_ends).astimezone(UTC):%Y-%m-%d}. "
                "The flow refresh-schedules writes later ones."
            )
        )
    for next_window in next_windows:
        if next_window.due_window is not None and run_statuses.get(next_window.deployment) is RunStatus.NONE:
            _print_missed_run(next_window, next_window.due_window)
    if plan.is_over:
        print_warning(ALL_OVER)


def print_run_location(pool: str, ui_url: str | None, *, serve: bool) -> None:
    """Print where to see the runs, and which worker executes them."""
    seen = f" See them at {ui_url}" if ui_url else ""
    if serve:
        print_to_stdout(to_safe_text(f"A worker of the work pool {pool} runs here until Ctrl-C.{seen}"))
    else:
        print_to_stdout(
            to_safe_text(
                f"Workers of the work pool {pool} execute the runs. `fleetpatch deploy --serve` starts one.{seen}"
            )
        )


def print_worker_stopped() -> None:
    """Print what happens to runs that were active when the worker stopped."""
    print_to_stderr(
        "Stopped. Jobs on machines keep running. The next `fleetpatch deploy --serve` continues interrupted runs "
        "within minutes. `fleetpatch runs` lists them."
    )


def _render_next_windows(next_windows: NextWindows, run_status: RunStatus, now: datetime) -> Text:
    name = next_windows.deployment.partition("/")[2]
    text = Text.assemble(to_safe_text(name, style="bold"), f", {format_count(next_windows.machine_count, 'machine')}: ")
    windows = []
    if next_windows.due_window is not None and run_status is not RunStatus.NONE:
        due = next_windows.due_window.start - next_windows.lead > now
        how = "starts" if due else "has started" if run_status is RunStatus.STARTED else "waits for a worker"
        windows.append(f"{_format_window(next_windows.due_window, next_windows)}, its run {how}")
    if next_windows.next_window is not None:
        lead = (
            f", its run starts {format_duration(next_windows.lead.total_seconds())} before" if next_windows.lead else ""
        )
        ahead = format_duration((next_windows.next_window.start - now).total_seconds())
        windows.append(f"next window {_format_window(next_windows.next_window, next_windows)}, in {ahead}{lead}")
    if not windows:
        windows.append(OVER if next_windows.is_over else "no later window")
    return text.append_text(to_safe_text("; ".join(windows)))


def _render_automatic(request: AutomaticRequest, inventory: Inventory | None) -> Text:
    managed = count_managed_machines(request, inventory)
    count = f", {format_count(managed, 'managed machine')}" if managed is not None else ""
    description = f"{describe_off_peak(request)}; decides every 15 minutes: fleetpatch automatic"
    if not request.enabled:
        description = "disabled: it shows what it would do, and starts nothing"
    return Text.assemble(to_safe_text(AUTOMATIC_NAME, style="bold"), to_safe_text(f"{count}: {description}"))


def _print_missed_run(next_windows: NextWindows, window: Occurrence) -> None:
    due = (window.start - next_windows.lead).astimezone(get_time_zone(next_windows.zone))
    print_to_stdout(
        Text.assemble(
            ("! ", "yellow"),
            to_safe_text(
                f"{next_windows.configuration.name}: Prefect starts no run for the window "
                f"{_format_window(window, next_windows)}: the run was due at {due:%H:%M}, and Prefect makes no runs in "
                "the past. To use the rest of the window, start the run:"
            ),
        )
    )
    # One line, so that it can be copied.
    get_stdout_console().print(to_safe_text(f"  {next_windows.start_command}"), soft_wrap=True)


def _format_window(window: Occurrence, next_windows: NextWindows) -> str:
    start, end = (moment.astimezone(get_time_zone(next_windows.zone)) for moment in (window.start, window.end))
    until = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%a %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {until} {next_windows.zone}"


def build_plan_json(
    plan: SyncPlan, findings: Sequence[ConfigurationFinding], *, is_policy_recorded: bool
) -> dict[str, object]:
    """Return the changes and the findings as JSON data. ``is_policy_recorded``: see ``policy_record``."""
    return {
        "up_to_date": plan.is_up_to_date and is_policy_recorded,
        "policy_recorded": is_policy_recorded,
        "over": plan.is_over,
        "kept_pauses": list(plan.kept_pauses),
        "changes": build_changes_json(plan.changes),
        "faults": [
            {
                "configuration": finding.configuration,
                "key": finding.key,
                "message": finding.message,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
    }


def build_changes_json(changes: Sequence[Change]) -> list[dict[str, object]]:
    """Return changes as JSON data."""
    return [
        {
            "doing": change.action.value,
            "kind": change.kind,
            "name": change.name,
            "differences": list(change.differences),
        }
        for change in changes
    ]
