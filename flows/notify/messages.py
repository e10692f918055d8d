"""The texts of notifications. Pure. Text from machines can neither form links nor mention people."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flows.ports.web_links import build_approval_url, build_prefect_url, build_run_url
from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import NotificationOccasion, OperationState, RebootState, UpdateState
from tasks.reports.formatting import (
    describe_cves,
    describe_reboots,
    describe_slowest_machine,
    format_count,
    format_scope,
)
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.approval import build_approve_command, compute_report_digest
from tasks.rules.runs.figures import compute_plan_figures
from tasks.rules.timing.maintenance_window import describe_window

MAX_NAMES = 10
_MAX_REASON_LENGTH = 160  # characters of a machine's own text
_UNSAFE_CHARACTERS = str.maketrans("<>[]`&@", "()()'+\N{FULLWIDTH COMMERCIAL AT}")
"""Chat services use these characters for markup, links and mentions."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message."""

    title: str
    body: str
    is_failure: bool  # a person should look at the run
    attachments: tuple[Path, ...] = ()  # files that are sent with it, where the service supports that


_TITLES = {
    NotificationOccasion.PLANNED: "planned",
    NotificationOccasion.WAITING: "waits for your approval",
    NotificationOccasion.STARTED: "started",
    NotificationOccasion.FINISHED: "finished",
    NotificationOccasion.FAILED: "failed",
    NotificationOccasion.MISSED: "did not run in its window",
    NotificationOccasion.CANCELLED: "cancelled",
}
_FAILURE_OCCASIONS = frozenset({NotificationOccasion.FAILED, NotificationOccasion.MISSED})
_PLAN_OCCASIONS = frozenset({NotificationOccasion.PLANNED, NotificationOccasion.WAITING, NotificationOccasion.STARTED})


def build_message(
    occasion: NotificationOccasion, report: RunReport, web_url: str = "", prefect_url: str = ""
) -> Message:
    """Return the message for an event of a run, from the report so far.

    There are no links to pages or to Prefect's UI without their addresses.
    """
    run = report.run
    subject = sanitize_text(str(run.request.get("configuration") or "") or format_scope(run.scope) or run.kind, 100)
    lines = [f"Run {run.id} for {sanitize_text(format_scope(run.scope), 200)}"]
    if run.window is not None:
        lines.append(f"Window: {describe_window(run.window)}")
    lines += _describe_plan(report) if occasion in _PLAN_OCCASIONS else _describe_results(report, occasion)
    if occasion is NotificationOccasion.WAITING:
        lines += _describe_approval(report)
    lines.append(f"More: fleetpatch show {run.id}")
    lines += _build_links(occasion, report, web_url, prefect_url)
    is_unknown = occasion is NotificationOccasion.FAILED and run.state is OperationState.UNKNOWN
    title = "its end is not known" if is_unknown else _TITLES[occasion]
    return Message(f"fleetpatch: {subject}: {title}", "\n".join(lines), occasion in _FAILURE_OCCASIONS)


def _build_links(occasion: NotificationOccasion, report: RunReport, web_url: str, prefect_url: str) -> list[str]:
    """Return the links, one a line. The addresses are the controller's own; text from machines has none."""
    run = report.run
    waiting = occasion is NotificationOccasion.WAITING
    links = {
        "Approve or reject": build_approval_url(run.id, web_url) if waiting else "",
        "Page": build_run_url(run.id, web_url),
        "Prefect": build_prefect_url(run, prefect_url),
    }
    return [f"{label}: {link}" for label, link in links.items() if link]


def _describe_plan(report: RunReport) -> list[str]:
    plans, figures = report.plans, compute_plan_figures(report.plans)
    waves = f" in {format_count(len(report.waves), 'wave')}" if report.waves else ""
    lines = [
        f"{format_count(len(plans), 'machine')}{waves}: {format_count(figures.updates, 'update')} to install, "
        f"{describe_reboots(figures)} expected, {describe_cves(figures.cves)}"
    ]
    slowest = describe_slowest_machine(figures)
    if slowest:
        lines.append(sanitize_text(f"{slowest[:1].upper()}{slowest[1:]}", 200))
    unknown = [assessment.machine for assessment in report.assessments if assessment.error is not None]
    return [*lines, f"Not assessed: {_join_names(unknown)}"] if unknown else lines


def _describe_approval(report: RunReport) -> list[str]:
    waits, run = report.run.message, report.run.id
    command = build_approve_command(run, compute_report_digest(report))
    approve_text = f"Approve: {command}, or the form of its flow run in the Prefect UI"
    return [*([f"It {sanitize_text(waits, 300)}"] if waits else []), approve_text, f"Refuse: fleetpatch reject {run}"]


def _describe_results(report: RunReport, occasion: NotificationOccasion) -> list[str]:
    lines = [sanitize_text(report.run.message, 600)] if report.run.message else []
    outcomes = report.outcomes
    if not outcomes:
        return lines
    states = Counter(outcome.state for outcome in outcomes)
    counted = ", ".join(f"{states[state]} {state}" for state in OperationState if states[state])
    lines.append(f"{format_count(len(outcomes), 'machine')}: {counted}")
    lines.append(_describe_changes(outcomes))
    lines += _describe_failures(outcomes)
    idle = [outcome for outcome in outcomes if outcome.state is OperationState.NOT_STARTED]
    if idle and occasion is not NotificationOccasion.FINISHED:
        lines.append(f"Not begun: {_join_names([outcome.machine for outcome in idle])}")
        lines.append(f"  {sanitize_text(idle[0].reason, _MAX_REASON_LENGTH)}")
    return lines


def _describe_changes(outcomes: Sequence[Outcome]) -> str:
    installed = sum(outcome.count_updates(UpdateState.INSTALLED) for outcome in outcomes)
    failed = sum(outcome.count_updates(UpdateState.FAILED) for outcome in outcomes)
    unset = sum(outcome.count_updates(UpdateState.SETUP_FAILED) for outcome in outcomes)
    rebooted = sum(outcome.reboot is RebootState.COMPLETED for outcome in outcomes)
    due = sum(outcome.reboot is RebootState.REQUIRED for outcome in outcomes)
    parts = [f"{format_count(installed, 'update')} installed", f"{failed} failed" if failed else ""]
    parts += [
        f"{unset} installed, but not set up" if unset else "",
        f"{format_count(rebooted, 'machine')} rebooted" if rebooted else "",
        f"{due} still to be rebooted" if due else "",
    ]
    return ", ".join(part for part in parts if part)


def _describe_failures(outcomes: Sequence[Outcome]) -> list[str]:
    failed = [outcome for outcome in outcomes if outcome.state is OperationState.FAILED]
    lines = [
        f"Failed: {sanitize_text(each.machine, 80)}: {sanitize_text(each.reason, _MAX_REASON_LENGTH)}"
        for each in failed[:MAX_NAMES]
    ]
    more = len(failed) - MAX_NAMES
    return [*lines, f"Failed: {more} more"] if more > 0 else lines


def _join_names(names: Sequence[str]) -> str:
    return join_first_names([sanitize_text(name, 80) for name in names], MAX_NAMES)


def sanitize_text(text: str, limit: int) -> str:
    """Return text on one line, without markup, control characters or links."""
    return sanitize_to_one_line(text, limit).translate(_UNSAFE_CHARACTERS).replace("://", ": //")
