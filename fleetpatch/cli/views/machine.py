"""Prints one machine of a run."""

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_finding_mark, render_state, to_safe_text
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from fleetpatch.cli.views.plan import (
    print_machine_plan,
    print_updates_by_reason,
    render_update_name,
    render_version_change,
)
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import FindingLevel, UpdateState
from tasks.reports.formatting import format_known_duration, format_time_of_day, load_zone_or_utc


def print_machine(report: RunReport, machine: str) -> None:
    """Print the outcome, steps, findings and updates of a machine."""
    outcome = next((machine_outcome for machine_outcome in report.outcomes if machine_outcome.machine == machine), None)
    plan = next((machine_outcome for machine_outcome in report.plans if machine_outcome.machine == machine), None)
    print_to_stdout(Text.assemble(to_safe_text(machine, "bold"), f" in run {report.run.id}"))
    if outcome is not None:
        _print_outcome(report, outcome)
    if plan is not None and (outcome is None or outcome.install is None):
        print_machine_plan(plan)
    elif outcome is not None:
        _print_updates(outcome)
    elif plan is None:
        print_to_stdout("It has no result yet.")


def _print_outcome(report: RunReport, outcome: Outcome) -> None:
    print_to_stdout(Text.assemble(render_state(outcome.state), ": ", to_safe_text(outcome.reason)))
    if outcome.error is not None and outcome.error.hint:
        print_to_stdout(Text.assemble("hint: ", to_safe_text(outcome.error.hint)))
    facts = outcome.facts
    if facts is not None:
        print_to_stdout(to_safe_text(f"{facts.os_name}, kernel {outcome.kernel_change}, {facts.arch}", "dim"))
    zone = load_zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    if outcome.steps:
        grid = build_table(
            build_unwrapped_column("step"),
            build_unwrapped_column(f"started ({zone.key})"),
            build_number_column("took"),
            build_unwrapped_column("state"),
            "",
        )
        for step in outcome.steps:
            took = format_known_duration((step.ended_at - step.started_at).total_seconds())
            grid.add_row(
                step.step,
                format_time_of_day(step.started_at, zone),
                took,
                render_state(step.state),
                to_safe_text(step.message),
            )
        print_to_stdout("", grid)
    _print_findings(outcome)
    reboot = outcome.reboot_result
    if reboot is not None:
        down, up = format_known_duration(reboot.down_seconds), format_known_duration(reboot.up_seconds)
        times = f" (down after {down}, up {up} later)"
        print_to_stdout(
            "",
            Text.assemble(
                "Reboot ", render_state(reboot.state), f"{times if reboot.count else ''}: ", to_safe_text(reboot.reason)
            ),
        )


def _print_findings(outcome: Outcome) -> None:
    if not outcome.findings:
        return
    print_to_stdout("")
    for finding in outcome.findings:
        print_to_stdout(
            Text.assemble(
                render_finding_mark(finding.level),
                " ",
                to_safe_text(finding.check, "bold"),
                ": ",
                to_safe_text(finding.message),
            )
        )
        if finding.remedy and finding.level is not FindingLevel.GOOD:
            print_to_stdout(Text.assemble("  ", to_safe_text(finding.remedy, "dim")))


def _print_updates(outcome: Outcome) -> None:
    installed = [update for update in outcome.updates if update.state is UpdateState.INSTALLED]
    if installed:
        notes = ["note"] if any(each.reason for each in installed) else []
        title = f"{len(installed)} installed"
        grid = build_table("update", build_unwrapped_column("classification"), "before → after", *notes, title=title)
        for each in installed:
            note = [to_safe_text(each.reason)] if notes else []
            version_change = render_version_change(each.update, each.version_after)
            grid.add_row(render_update_name(each.update), each.update.classification, version_change, *note)
        print_to_stdout("", grid)
    updates = [
        update for update in outcome.updates if update.state is not UpdateState.INSTALLED
    ]  # also repaired packages
    if updates:
        print_to_stdout("")
        print_updates_by_reason(updates)
    install = outcome.install
    for path in install.kept_configuration_files if install else ():
        print_to_stdout(Text.assemble("edited file kept, the new version is beside it: ", to_safe_text(path)))
    for change in install.unasked if install else ():
        print_to_stdout(Text.assemble("also changed: ", to_safe_text(change)))
    for transaction in install.transactions if install else ():
        if transaction.undo:
            how = f"undo of transaction {transaction.number + 1}, on the machine: "
            print_to_stdout(Text.assemble(how, to_safe_text(transaction.undo)))
