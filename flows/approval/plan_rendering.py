"""Render a plan for approval in the Prefect UI: Markdown and a table. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from flows.request.differences import list_differences
from flows.request.patch_request import PatchRequest
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunReport, UpdateResult
from tasks.reports.export.markdown import TableValue, limit_markdown
from tasks.reports.formatting import (
    NO_FIGURE,
    NOT_KNOWN,
    describe_cves,
    describe_prediction,
    describe_prediction_basis,
    describe_reboots,
    describe_slowest_machine,
    format_count,
    format_scope,
)
from tasks.reports.sanitizing import escape_markdown
from tasks.rules.runs.approval import build_approve_command
from tasks.rules.runs.figures import REBOOT_LABELS, collect_cves, compute_plan_figures, predict_reboot
from tasks.rules.timing.maintenance_window import describe_window

MAX_GROUPS = 20
MAX_UPDATES = 100
MAX_REASONS = 20
MAX_NAMES = 12


def describe_plan(planned: RunReport) -> str:
    """Return a plan in one sentence: updates, urgency, CVEs, reboots, and the slowest machine."""
    figures = compute_plan_figures(planned.plans)
    parts = (
        f"{format_count(figures.updates, 'update')} on {format_count(figures.machines, 'machine')} "
        f"({figures.urgent} critical or security, {describe_cves(figures.cves)})",
        describe_reboots(figures),
        describe_slowest_machine(figures),
    )
    return "; ".join(filter(None, parts))


def find_service_restarts(planned: RunReport) -> dict[str, tuple[str, ...]]:
    """Return the services of each machine that already run with replaced files."""
    columns = {
        assessment.machine: assessment.packages.services_to_restart
        for assessment in planned.assessments
        if assessment.packages
    }
    return {machine: services for machine, services in columns.items() if services}


def group_identical_plans(plans: Iterable[MachinePlan]) -> list[tuple[list[str], MachinePlan]]:
    """Return plans grouped by content, with their machines. Many machines of a fleet have identical plans."""
    groups: dict[tuple[object, ...], tuple[list[str], MachinePlan]] = {}
    for plan in plans:
        groups.setdefault((plan.chosen, plan.skipped, plan.notes), ([], plan))[0].append(plan.machine)
    return list(groups.values())


def group_by_reason(skipped: Iterable[UpdateResult]) -> dict[str, list[str]]:
    """Return the names of skipped updates, grouped by reason."""
    groups: dict[str, list[str]] = defaultdict(list)
    for result in skipped:
        groups[f"{result.state}: {result.reason}"].append(result.update.name)
    return {reason: sorted(names) for reason, names in groups.items()}


def _render_differences(request: Mapping[str, object]) -> list[str]:
    """Return what the run was asked for beyond the usual."""
    try:
        patch_request = PatchRequest.model_validate(request)
    except ValidationError:  # recorded by another version
        return ["- What was asked for beyond the usual can't be read: another version of fleetpatch recorded it", ""]
    differences = [difference for difference in list_differences(patch_request) if difference.path != "scope"]
    lines = [
        f"- {escape_markdown(difference.title)}: {escape_markdown(difference.value)}" for difference in differences
    ]
    return ["Not as usual:", "", *lines, ""] if lines else []


def render_plan_markdown(planned: RunReport, digest: str, until: str) -> str:
    """Return the plan as Markdown, as long as Prefect's UI can show. All texts from machines are escaped.

    ``until`` is when the approval expires, as text; "" for a plan that needs no approval.
    """
    run = planned.run
    lines = [f"## Plan of run {escape_markdown(run.id)}", "", describe_plan(planned), ""]
    lines += [
        f"- Machines: {escape_markdown(format_scope(run.scope))}",
        f"- Started by {escape_markdown(run.started_by)}",
    ]
    lines += [f"- Window {escape_markdown(describe_window(run.window))}"] if run.window else []
    lines += [f"- Can be approved until {escape_markdown(until)}"] if until else []
    lines += [f"- Plan {digest[:12]}", ""]
    lines += _render_differences(run.request)
    command = escape_markdown(build_approve_command(run.id, digest))
    lines += [f"- To approve: `{command}`, or the form of this flow run", ""] if until else []
    lines += _render_machine_notes(planned)
    groups = group_identical_plans(planned.plans)
    for names, plan in groups[:MAX_GROUPS]:
        lines += _render_group(names, plan)
    if len(groups) > MAX_GROUPS:
        lines += [
            f"and {len(groups) - MAX_GROUPS} more groups of machines: see the table, or `fleetpatch approvals`",
            "",
        ]
    return limit_markdown("\n".join(lines) + "\n", f"The plan is longer: fleetpatch show {escape_markdown(run.id)}")


def _render_machine_notes(planned: RunReport) -> list[str]:
    """Return what is unusual about machines. It stands before the updates, which may be cut."""
    without = [
        f"- {escape_markdown(assessment.machine)} has no plan: {escape_markdown(assessment.error.message)}"
        for assessment in planned.assessments
        if assessment.error is not None
    ]
    restarts = [
        f"- {escape_markdown(machine)} already runs on replaced files: "
        + escape_markdown(join_first_names(services, MAX_NAMES))
        for machine, services in find_service_restarts(planned).items()
    ]
    lines: list[str] = []
    for notes, of_what in ((without, "without a plan"), (restarts, "on replaced files")):
        lines += notes[:MAX_GROUPS]
        if len(notes) > MAX_GROUPS:
            lines.append(
                f"- and {len(notes) - MAX_GROUPS} more {of_what}: fleetpatch show {escape_markdown(planned.run.id)}"
            )
    return [*lines, ""] if lines else []


def build_machine_table(planned: RunReport) -> list[dict[str, TableValue]]:
    """Return one row for each machine, in the order of the waves."""
    plans = {plan.machine: plan for plan in planned.plans}
    return [
        {
            "Wave": wave.number,
            "Machine": escape_markdown(name),
            "Updates": len(plans[name].chosen),
            "Critical or security": sum(update.classification.is_urgent for update in plans[name].chosen),
            "CVEs": count_fixed_cves(plans[name]),
            "Minutes": describe_prediction(plans[name]) if plans[name].chosen else NO_FIGURE,
            "Reboot": REBOOT_LABELS[predict_reboot(plans[name])],
            "Skipped": len(plans[name].skipped),
        }
        for wave in planned.waves
        for name in wave.machines
        if name in plans
    ]


def count_fixed_cves(plan: MachinePlan) -> TableValue:
    """Return how many CVEs a machine's plan fixes."""
    fixed = collect_cves(plan.chosen)
    return NOT_KNOWN if fixed is None else len(fixed)


def _render_group(names: list[str], plan: MachinePlan) -> list[str]:
    took = f"about {describe_prediction(plan)} ({describe_prediction_basis(plan.prediction.basis)}), "
    took += f"reboot: {REBOOT_LABELS[predict_reboot(plan)]}"
    shown = escape_markdown(join_first_names(names, MAX_NAMES))
    lines = [f"### {shown}: {format_count(len(plan.chosen), 'update')}, {took}", ""]
    if plan.chosen:
        lines += ["| Update | Class | From | To | CVEs |", "|---|---|---|---|---|"]
    urgent_first = sorted(plan.chosen, key=lambda it: (not it.classification.is_urgent, it.name))
    for update in urgent_first[:MAX_UPDATES]:
        cves = NOT_KNOWN if update.cves is None else join_first_names(update.cves)
        cells = (update.name, update.classification, update.installed or "new", update.available, cves)
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    if len(plan.chosen) > MAX_UPDATES:
        lines += ["", f"and {len(plan.chosen) - MAX_UPDATES} more"]
    lines.append("")
    reasons = group_by_reason(plan.skipped)
    lines += [
        f"- skipped, {escape_markdown(reason)}: {escape_markdown(join_first_names(update_names, MAX_NAMES))}"
        for reason, update_names in list(reasons.items())[:MAX_REASONS]
    ]
    lines += [f"- and {len(reasons) - MAX_REASONS} more reasons"] if len(reasons) > MAX_REASONS else []
    lines += [f"- note: {escape_markdown(note)}" for note in plan.notes]
    return [*lines, ""]
