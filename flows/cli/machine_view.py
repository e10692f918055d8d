"""One machine of a run on the screen: everything that is known of it."""

from rich.text import Text

from flows.cli.run_view import mark, tell_by_reason, tell_plan, versions
from flows.cli.screen import right, safe, say, solid, state, table
from tasks.model import Outcome, RunReport
from tasks.reporting.text import clock_time, duration, zone_or_utc
from tasks.states import FindingLevel, UpdateState


def tell_machine(report: RunReport, machine: str) -> None:
    """Show a machine's outcome, steps, findings, and updates with their reasons."""
    outcome = next((each for each in report.outcomes if each.machine == machine), None)
    plan = next((each for each in report.plans if each.machine == machine), None)
    say(Text.assemble(safe(machine, "bold"), f" in run {report.run.id}"))
    if outcome is not None:
        _tell_outcome(report, outcome)
    if plan is not None and (outcome is None or outcome.install is None):
        tell_plan(plan)
    elif outcome is not None:
        _tell_updates(outcome)
    elif plan is None:
        say("Nothing has become of it yet.")


def _tell_outcome(report: RunReport, outcome: Outcome) -> None:
    say(Text.assemble(state(outcome.state), ": ", safe(outcome.reason)))
    if outcome.error is not None and outcome.error.hint:
        say(Text.assemble("hint: ", safe(outcome.error.hint)))
    facts = outcome.facts
    if facts is not None:
        say(safe(f"{facts.os_name}, kernel {facts.kernel}, {facts.arch}", "dim"))
    zone = zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    if outcome.steps:
        grid = table(solid("step"), solid(f"began ({zone.key})"), right("took"), solid("state"), "")
        for step in outcome.steps:
            took = duration((step.ended_at - step.started_at).total_seconds())
            grid.add_row(step.step, clock_time(step.started_at, zone), took, state(step.state), safe(step.message))
        say("", grid)
    _tell_findings(outcome)
    reboot = outcome.reboot_result
    if reboot is not None:
        times = f" (down after {duration(reboot.down_seconds)}, up {duration(reboot.up_seconds)} later)"
        say(
            "", Text.assemble("Reboot ", state(reboot.state), f"{times if reboot.count else ''}: ", safe(reboot.reason))
        )


def _tell_findings(outcome: Outcome) -> None:
    if not outcome.findings:
        return
    say("")
    for finding in outcome.findings:
        say(Text.assemble(mark(finding.level), " ", safe(finding.check, "bold"), ": ", safe(finding.message)))
        if finding.remedy and finding.level is not FindingLevel.GOOD:
            say(Text.assemble("  ", safe(finding.remedy, "dim")))


def _tell_updates(outcome: Outcome) -> None:
    installed = [each for each in outcome.updates if each.state is UpdateState.INSTALLED]
    if installed:
        notes = ["note"] if any(each.reason for each in installed) else []
        title = f"{len(installed)} installed"
        grid = table("update", solid("classification"), "before → after", *notes, title=title)
        for each in installed:
            note = [safe(each.reason)] if notes else []
            versions_then = versions(each.update, each.version_after)
            grid.add_row(safe(each.update.name), each.update.classification, versions_then, *note)
        say("", grid)
    rest = [each for each in outcome.updates if each.state is not UpdateState.INSTALLED]  # what was repaired, too
    if rest:
        say("")
        tell_by_reason(rest)
    install = outcome.install
    for path in install.conffiles if install else ():
        say(Text.assemble("kept as edited, the new one is beside it: ", safe(path)))
    for change in install.unasked if install else ():
        say(Text.assemble("came along: ", safe(change)))
