"""Prints why updates were installed or not, and builds the JSON."""

from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

from rich.text import Text

from fleetpatch.cli.runtime.output import print_detail, print_to_stdout, render_marked_line, render_state, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json
from tasks.domain.model import Assessment
from tasks.domain.states import FindingLevel, UpdateState, YesNoUnknown
from tasks.records.queries.explanations import AVAILABLE_REASON, Explanation
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc, format_moment
from tasks.rules.machine_checks.packages import (
    check_concurrent_changes,
    check_known_faults,
    check_package_problems,
    describe_live_patching,
)
from tasks.rules.machine_checks.services import check_outdated_services
from tasks.rules.updates.effect import describe_waiting, judge_effect

ALL_UPDATES_MASK = "*"
"""The mask of all updates."""


_UTC = ZoneInfo("UTC")


EXPLANATION_FACTS: Final[Sequence[Fact[Explanation]]] = (
    Fact("machineName", lambda explanation: explanation.machine),
    Fact("patchName", lambda explanation: explanation.update.name),
    Fact("version", lambda explanation: explanation.update.available),
    Fact("versionBefore", lambda explanation: explanation.update.installed),
    Fact("classifications", lambda explanation: [explanation.update.classification]),
    Fact("installationState", lambda explanation: explanation.state),
    Fact("reason", lambda explanation: explanation.reason),
    Fact("dateTime", lambda explanation: explanation.at),
    Fact("maintenanceRunId", lambda explanation: explanation.run_id or None),
    Fact("source", lambda explanation: "assessment" if explanation.is_from_assessment else "run"),
)


def build_why_json(
    machine: str, explanations: Sequence[Explanation], assessment: Assessment | None
) -> dict[str, object]:
    """Return reasons, and the latest assessment of the machine, as JSON data."""
    packages, error = (assessment.packages, assessment.error) if assessment else (None, None)
    return {
        "machine": machine,
        "assessedDateTime": format_iso_utc(assessment.at) if assessment else None,
        "assessmentError": error.message if error else None,
        "packageProblems": list(packages.problems) if packages else None,
        "repositoryProblems": list(map(str, packages.repository_problems)) if packages else None,
        "servicesToRestart": list(packages.services_to_restart) if packages else None,
        "inEffect": judge_effect(packages)[0] if packages else None,
        "rebootReason": packages.reboot.explanation if packages and packages.reboot.reasons else None,
        "livePatches": (describe_live_patching(packages.live_patching) or None) if packages else None,
        "explanations": build_list_json(EXPLANATION_FACTS, explanations),
    }


def _print_assessment_problems(assessment: Assessment, *, older: bool) -> None:
    """Print why a machine could not be assessed, or the problems of its packages and services."""
    packages, error = assessment.packages, assessment.error
    moment = format_moment(assessment.at, _UTC)
    if packages is None:
        reason = error.message if error else "no reason was recorded"
        title = Text.assemble(to_safe_text(assessment.machine, "bold"), f" could not be assessed on {moment} UTC: ")
        print_to_stdout(title.append_text(to_safe_text(reason, "red")))
        if error and error.hint:
            print_detail(error.hint, "dim", indent=2)
        remark = "The data below is older." if older else "Its pending updates are not known."
        print_to_stdout(f"  {remark} After the repair: fleetpatch assess name={assessment.machine}", "")
        return
    findings = (
        *check_package_problems(packages, repair_allowed=False),
        *check_concurrent_changes(packages),
        *check_known_faults(packages),
        *check_outdated_services(packages),
    )
    for finding in findings:
        if not finding.level.is_problem:
            continue
        print_to_stdout(render_marked_line(finding.level, assessment.machine, finding.message))
        print_detail(f"{finding.remedy} Assessed on {moment} UTC.".strip(), "dim", indent=2)
        print_to_stdout("")
    if packages.waiting is not None:
        text = describe_waiting(packages.waiting)
        print_to_stdout(render_marked_line(FindingLevel.WARN, assessment.machine, text), "")
    if packages.live_patching is not None:
        lines = [f"live patches: {describe_live_patching(packages.live_patching)}"]
        if packages.reboot.answer is YesNoUnknown.YES:
            lines.append(f"a reboot is pending: {packages.reboot.explanation}")
        for line in lines:
            print_to_stdout(Text.assemble(to_safe_text(assessment.machine, "bold"), ": ", to_safe_text(line)))
        print_to_stdout("")


def print_explanations(
    machine: str, mask: str, explanations: Sequence[Explanation], assessment: Assessment | None = None, *, runs: int = 5
) -> None:
    """Print the problems of the machine, and reasons: all reasons of named updates, else the newest of each update."""
    if assessment is not None:
        _print_assessment_problems(assessment, older=bool(explanations))
    if not explanations and assessment is not None and assessment.packages is None:
        return
    if not explanations:
        subject = "No update is pending" if mask == ALL_UPDATES_MASK else f"No pending update matches {mask!r}"
        print_to_stdout(
            to_safe_text(f"{subject} on {machine}, and none is recorded in its latest {format_count(runs, 'run')}.")
        )
        return
    by_update: dict[str, list[Explanation]] = {}
    for explanation in explanations:
        by_update.setdefault(explanation.update.name, []).append(explanation)
    for name, every in by_update.items():
        title = to_safe_text(every[0].update.title, "dim")
        space = " " if title else ""
        print_to_stdout(Text.assemble(to_safe_text(name, "bold"), space, title, " on ", to_safe_text(machine)))
        for explanation in [choose_explanation(every)] if mask == ALL_UPDATES_MASK else every:
            source = "assessed" if explanation.is_from_assessment else f"run {explanation.run_id}"
            before, after = explanation.update.installed or NO_FIGURE, explanation.update.available
            version = after if before == after else f"{before} → {after}"  # a repair does not change it
            print_to_stdout(
                Text.assemble("  ", render_state(explanation.state), ": ", to_safe_text(explanation.reason))
            )
            print_detail(f"{version}; {source}, {format_moment(explanation.at, _UTC)} UTC", "dim")
    if mask == ALL_UPDATES_MASK and len(explanations) > len(by_update):
        print_to_stdout("", to_safe_text(f"To see all reasons of an update: fleetpatch why {machine} UPDATE", "dim"))


def choose_explanation(explanations: Sequence[Explanation]) -> Explanation:
    """Return the newest reason of one update. The reason of a run precedes "available". Pure.

    Args:
        explanations: of the same update: the assessment first, then runs, newest first.
    """
    first, *run_explanations = explanations
    if first.reason != AVAILABLE_REASON or not run_explanations:
        return first
    run = run_explanations[0]
    is_same_version = run.state is not UpdateState.INSTALLED and run.update.available == first.update.available
    return run if is_same_version else first
