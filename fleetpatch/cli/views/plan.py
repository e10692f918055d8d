"""Prints plans: the machines of each wave, their updates, and why other updates are skipped."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_count, render_state, shorten_list, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_table
from fleetpatch.cli.runtime.table import TextTable, build_column, build_table
from fleetpatch.cli.views.runs import print_machine_reasons
from fleetpatch.cli.views.update_cells import render_classification, render_update_name, render_version_change
from flows.approval.plan_rendering import count_fixed_cves, describe_plan, group_identical_plans
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunReport, Update, UpdateResult
from tasks.domain.states import OperationState, YesNoUnknown
from tasks.reports.data.tables import build_tables
from tasks.reports.formatting import (
    NO_FIGURE,
    describe_prediction,
    describe_prediction_basis,
    format_count,
    format_known_duration,
    format_size,
)
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.runs.figures import REBOOT_LABELS, predict_reboot
from tasks.rules.timing.maintenance_window import compute_window_seconds, describe_window

MAX_DETAILED_PLANS = 4  # with more, a plan lists updates only on request


MAX_NAMES = 6


def print_plan(report: RunReport, *, details: bool = False) -> None:
    """Print what a run would do, and why it skips updates."""
    run = report.run
    if run.message:
        print_to_stdout(Text(sanitize_to_one_line(f"{run.message[:1].upper()}{run.message[1:]}"), style="bold yellow"))
    print_to_stdout(Text.assemble(("Plan ", "bold"), (run.id, "bold"), ": nothing was changed"))
    if run.window is not None:
        print_to_stdout(f"Window {describe_window(run.window)}")
    print_to_stdout("")
    report_tables = build_tables(report)
    states = {row.machine: row.state for row in report_tables.machines}
    headings = ("wave", "machine", "updates", "security", "skipped", "download", "minutes", "reboot")
    print_to_stdout(build_plan_table(report, headings, states))
    print_to_stdout("", f"Total: {describe_plan(report)}")
    _print_machines_beyond_window(report)
    for note in report.notes:
        print_to_stdout(Text.assemble("Note: ", to_safe_text(note)))
    unplanned_rows = [
        row for row in report_tables.machines if row.state != OperationState.NOT_STARTED or row.wave is None
    ]
    print_machine_reasons(unplanned_rows, report_tables.findings)
    groups = group_identical_plans(report.plans)
    if details or len(groups) <= MAX_DETAILED_PLANS:
        for names, plan in groups:
            print_machine_plan(plan, names)
    else:
        print_to_stdout("", f"To see every update: --details, or fleetpatch show {run.id} --machine NAME")


def build_plan_table(report: RunReport, headings: Sequence[str], states: Mapping[str, str]) -> TextTable:
    """Return a table of the machines of each wave, with these columns. ``states`` is for machines without a plan."""
    plans = {plan.machine: plan for plan in report.plans}
    table = build_table(*(build_column(name, is_number=name not in {"machine", "reboot"}) for name in headings))
    for wave in report.waves:
        for name in wave.machines:
            cells: dict[str, str | Text] = {"wave": f"{wave.number}{' canary' if wave.canary else ''}"}
            cells |= {"machine": to_safe_text(name), "updates": render_state(states.get(name, "no plan"))}
            if plan := plans.get(name):
                urgent = sum(update.classification.is_urgent for update in plan.chosen)
                cells |= {
                    "updates": render_count(len(plan.chosen), "bold"),
                    "security": render_count(urgent, "red"),
                    "skipped": render_count(len(plan.skipped)),
                    "CVEs": str(count_fixed_cves(plan)),
                    "download": format_size(sum(update.size_bytes or 0 for update in plan.chosen)),
                    "minutes": describe_prediction(plan) if plan.chosen else NO_FIGURE,
                    "reboot": render_reboot_expectation(predict_reboot(plan)),
                }
            table.add_row(*(cells.get(heading, "") for heading in headings))
    return table


def render_reboot_expectation(answer: YesNoUnknown) -> Text:
    """Return whether a reboot is expected."""
    return Text(REBOOT_LABELS[answer], style={YesNoUnknown.YES: "yellow", YesNoUnknown.NO: "dim"}.get(answer, ""))


UPDATE_FACTS: Final[Sequence[Fact[Update]]] = (
    Fact("", render_update_name, "update", wraps=True),
    Fact("", render_classification, "classification"),
    Fact("", render_version_change, "installed → new", wraps=True),
    Fact("", lambda update: format_size(update.size_bytes), "size", is_number=True),
)


def _print_machines_beyond_window(report: RunReport) -> None:
    """Print the machines that are predicted to take longer than the whole window."""
    window = report.run.window
    if window is None:
        return
    length = compute_window_seconds(window)
    too_long = [
        sanitize_to_one_line(plan.machine)
        for plan in report.plans
        if plan.chosen and plan.prediction.total_seconds > length
    ]
    if too_long:
        message = (
            f"Longer than the window of {format_duration(length)}: {', '.join(shorten_list(too_long, MAX_NAMES))}."
        )
        print_to_stdout("", Text(f"{message} Updates that do not fit are not attempted.", style="yellow"))


def print_machine_plan(plan: MachinePlan, names: Sequence[str] = ()) -> None:
    """Print the chosen updates of a machine (or of several with the same plan), and the skipped ones by reason."""
    whom = ", ".join(sanitize_to_one_line(name) for name in shorten_list(names or [plan.machine], MAX_NAMES))
    print_to_stdout("")
    if plan.chosen:
        title = f"{whom}: {format_count(len(plan.chosen), 'update')} chosen, {len(plan.skipped)} skipped"
        chosen = sorted(plan.chosen, key=lambda update: (not update.classification.is_urgent, update.name))
        print_to_stdout(build_list_table(UPDATE_FACTS, chosen, title=title))
    else:
        print_to_stdout(Text(f"{whom}: nothing to install", style="bold"))
    print_updates_by_reason(plan.skipped)
    if plan.chosen:
        p = plan.prediction
        parts = {"download": p.stage, "install": p.install, "reboot": p.reboot, "validate": p.validate}
        durations = ", ".join(f"{name} {format_known_duration(seconds)}" for name, seconds in parts.items() if seconds)
        print_to_stdout(
            Text(
                f"  about {describe_prediction(plan)} ({durations}; {describe_prediction_basis(p.basis)})", style="dim"
            )
        )
    for remark in plan.notes:
        print_to_stdout(Text.assemble("  note: ", to_safe_text(remark)))


def print_updates_by_reason(results: Iterable[UpdateResult]) -> None:
    """Print updates that are not installed, grouped by reason."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in results:
        groups[result.state.value, result.reason].append(result.update.name)
    for (label, reason), names in groups.items():
        print_to_stdout(
            Text.assemble("  ", (f"{len(names)} ", "bold"), render_state(label), ": ", to_safe_text(reason))
        )
        print_to_stdout(Text.assemble("    ", to_safe_text(join_first_names(sorted(names), MAX_NAMES), "dim")))
