"""Prints why updates were installed or not, and builds the JSON."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_finding_mark, render_state, to_safe_text
from tasks.domain.model import Assessment, PackageState
from tasks.domain.states import FindingLevel, UpdateState, YesNoUnknown
from tasks.records.queries.explanations import AVAILABLE_REASON, Explanation
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc, format_moment
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.machine_checks.packages import (
    check_concurrent_changes,
    check_known_faults,
    check_package_problems,
    describe_live_patching,
)
from tasks.rules.machine_checks.services import check_outdated_services

ALL_UPDATES_MASK = "*"
"""The mask of all updates."""


_UTC = ZoneInfo("UTC")


def build_explanation_json(explanation: Explanation) -> dict[str, object]:
    """Return a reason as JSON data."""
    return {
        "machineName": explanation.machine,
        "patchName": explanation.update.name,
        "version": explanation.update.available,
        "versionBefore": explanation.update.installed,
        "classifications": [explanation.update.classification.value],
        "installationState": explanation.state.value,
        "reason": explanation.reason,
        "dateTime": format_iso_utc(explanation.at),
        "maintenanceRunId": explanation.run_id or None,
        "source": "assessment" if explanation.is_from_assessment else "run",
    }


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
        "repositoryProblems": [str(repository_problem) for repository_problem in packages.repository_problems]
        if packages
        else None,
        "servicesToRestart": list(packages.services_to_restart) if packages else None,
        "rebootReason": packages.reboot.explanation if packages and packages.reboot.reasons else None,
        "livePatches": (describe_live_patching(packages.live_patching) or None) if packages else None,
        "explanations": [build_explanation_json(explanation) for explanation in explanations],
    }


def _print_assessment_problems(assessment: Assessment, *, older: bool) -> None:
    """Print why a machine could not be assessed, or the problems of its packages and services."""
    packages, error = assessment.packages, assessment.error
    when = format_moment(assessment.at, _UTC)
    if packages is None:
        reason = error.message if error else "no reason was recorded"
        print_to_stdout(
            Text.assemble(
                to_safe_text(assessment.machine, "bold"),
                f" could not be assessed on {when} UTC: ",
                to_safe_text(reason, "red"),
            )
        )
        if error and error.hint:
            print_to_stdout(Text.assemble("  ", to_safe_text(error.hint, "dim")))
        remark = "The data below is older." if older else "Its pending updates are not known."
        print_to_stdout(f"  {remark} After the repair: fleetpatch assess name={assessment.machine}", "")
        return
    broken = check_package_problems(packages, repair_allowed=False)
    others = (*check_concurrent_changes(packages), *check_known_faults(packages), *check_outdated_services(packages))
    for finding in (*broken, *others):
        if finding.level is FindingLevel.GOOD:
            continue
        print_to_stdout(
            Text.assemble(
                render_finding_mark(finding.level),
                " ",
                to_safe_text(assessment.machine, "bold"),
                ": ",
                to_safe_text(finding.message),
            )
        )
        print_to_stdout(Text.assemble("  ", to_safe_text(f"{finding.remedy} Assessed on {when} UTC.", "dim")), "")
    if packages.live_patching is not None:
        _print_live_patching(assessment.machine, packages)


def _print_live_patching(machine: str, packages: PackageState) -> None:
    """Print the live patches of a machine, and the reboot that is pending beside them."""
    lines = [f"live patches: {describe_live_patching(packages.live_patching)}"]
    if packages.reboot.answer is YesNoUnknown.YES:
        lines.append(f"a reboot is pending: {packages.reboot.explanation}")
    for line in lines:
        print_to_stdout(Text.assemble(to_safe_text(machine, "bold"), ": ", to_safe_text(line)))
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
            where = "assessed" if explanation.is_from_assessment else f"run {explanation.run_id}"
            print_to_stdout(
                Text.assemble("  ", render_state(explanation.state), ": ", to_safe_text(explanation.reason))
            )
            print_to_stdout(
                Text.assemble(
                    "    ",
                    to_safe_text(
                        f"{_format_version_change(explanation)}; {where}, {format_moment(explanation.at, _UTC)} UTC",
                        "dim",
                    ),
                )
            )
    if mask == ALL_UPDATES_MASK and len(explanations) > len(by_update):
        print_to_stdout(
            "",
            Text(
                f"To see all reasons of an update: fleetpatch why {sanitize_to_one_line(machine)} UPDATE", style="dim"
            ),
        )


def _format_version_change(each: Explanation) -> str:
    """Return "old → new", or one version: a repair does not change it."""
    old, new = each.update.installed or NO_FIGURE, each.update.available
    return new if old == new else f"{old} → {new}"


def choose_explanation(explanations: Sequence[Explanation]) -> Explanation:
    """Return the newest reason of one update. The reason of a run precedes "available". Pure.

    Args:
        explanations: of the same update: the assessment first, then runs, newest first.
    """
    first, *others = explanations
    if first.reason != AVAILABLE_REASON or not others:
        return first
    run = others[0]
    is_same_version = run.state is not UpdateState.INSTALLED and run.update.available == first.update.available
    return run if is_same_version else first
