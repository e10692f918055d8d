"""Prints one machine of a run."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_detail, print_to_stdout, render_marked_line, render_state, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_table
from fleetpatch.cli.views.plan import print_machine_plan, print_updates_by_reason
from fleetpatch.cli.views.update_cells import render_update_name, render_version_change
from tasks.domain.model import Outcome, RunReport, StepRecord, UpdateResult
from tasks.domain.states import FindingLevel, UpdateState
from tasks.reports.formatting import format_known_duration, format_time_of_day, load_zone_or_utc


def print_machine(report: RunReport, machine: str) -> None:
    """Print the outcome, steps, findings and updates of a machine."""
    outcome = next((machine_outcome for machine_outcome in report.outcomes if machine_outcome.machine == machine), None)
    plan = next((machine_plan for machine_plan in report.plans if machine_plan.machine == machine), None)
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
        step_facts: Sequence[Fact[StepRecord]] = (
            Fact("", lambda step: step.step, "step"),
            Fact("", lambda step: format_time_of_day(step.started_at, zone), f"started ({zone.key})"),
            Fact(
                "",
                lambda step: format_known_duration((step.ended_at - step.started_at).total_seconds()),
                "took",
                is_number=True,
            ),
            Fact("", lambda step: render_state(step.state), "state"),
            Fact("", lambda step: step.message, "", wraps=True),
        )
        print_to_stdout("", build_list_table(step_facts, outcome.steps))
    if outcome.findings:
        print_to_stdout("")
    for finding in outcome.findings:
        print_to_stdout(render_marked_line(finding.level, finding.check, finding.message))
        if finding.remedy and finding.level is not FindingLevel.GOOD:
            print_detail(finding.remedy, "dim", indent=2)
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


INSTALLED_FACTS: Final[Sequence[Fact[UpdateResult]]] = (
    Fact("", lambda result: render_update_name(result.update), "update", wraps=True),
    Fact("", lambda result: result.update.classification, "classification"),
    Fact("", lambda result: render_version_change(result.update, result.version_after), "before → after", wraps=True),
    Fact("", lambda result: result.reason, "note", wraps=True),
)


def _print_updates(outcome: Outcome) -> None:
    installed = [update for update in outcome.updates if update.state is UpdateState.INSTALLED]
    if installed:
        without = [] if any(result.reason for result in installed) else ["note"]
        table = build_list_table(INSTALLED_FACTS, installed, without=without, title=f"{len(installed)} installed")
        print_to_stdout("", table)
    # Repaired packages are among the others, too.
    updates = [update for update in outcome.updates if update.state is not UpdateState.INSTALLED]
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
            title = f"undo of transaction {transaction.number + 1}, on the machine: "
            print_to_stdout(Text.assemble(title, to_safe_text(transaction.undo)))
