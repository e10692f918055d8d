"""Prints plans: the machines of each wave, their updates, and why other updates are skipped."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_count, render_state, shorten_list, to_safe_text
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from fleetpatch.cli.views.runs import print_machine_reasons
from flows.approval.plan_rendering import describe_plan, group_identical_plans
from inventory.name_lists import join_first_names
from tasks.domain.model import MachinePlan, RunReport, Update, UpdateResult
from tasks.domain.states import URGENT_CLASSIFICATIONS, OperationState, YesNoUnknown
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
    plans = {plan.machine: plan for plan in report.plans}
    run = report.run
    if run.message:
        print_to_stdout(Text(sanitize_to_one_line(f"{run.message[:1].upper()}{run.message[1:]}"), style="bold yellow"))
    print_to_stdout(Text.assemble(("Plan ", "bold"), (run.id, "bold"), ": nothing was changed"))
    if run.window is not None:
        print_to_stdout(f"Window {describe_window(run.window)}")
    print_to_stdout("")
    grid = build_table(
        build_number_column("wave"),
        build_unwrapped_column("machine"),
        build_number_column("updates"),
        build_number_column("security"),
        build_number_column("skipped"),
        build_number_column("download"),
        build_number_column("minutes"),
        build_unwrapped_column("reboot"),
    )
    report_tables = build_tables(report)
    rows = {row.machine: row for row in report_tables.machines}
    for wave in report.waves:
        for name in wave.machines:
            label = f"{wave.number}{' canary' if wave.canary else ''}"
            plan = plans.get(name)
            if plan is None:
                grid.add_row(label, to_safe_text(name), render_state(rows[name].state), "", "", "", "", "")
                continue
            grid.add_row(
                label,
                to_safe_text(name),
                render_count(len(plan.chosen), "bold"),
                render_count(sum(u.classification in URGENT_CLASSIFICATIONS for u in plan.chosen), "red"),
                render_count(len(plan.skipped)),
                format_size(sum(u.size_bytes or 0 for u in plan.chosen)),
                describe_prediction(plan) if plan.chosen else NO_FIGURE,
                render_reboot_expectation(predict_reboot(plan)),
            )
    print_to_stdout(grid)
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
    grid = build_table(
        "update",
        build_unwrapped_column("classification"),
        "installed → new",
        build_number_column("size"),
        title=f"{whom}: {format_count(len(plan.chosen), 'update')} chosen, {len(plan.skipped)} skipped",
    )
    for update in sorted(plan.chosen, key=lambda each: (each.classification not in URGENT_CLASSIFICATIONS, each.name)):
        grid.add_row(
            render_update_name(update),
            render_classification(update),
            render_version_change(update),
            format_size(update.size_bytes),
        )
    if plan.chosen:
        print_to_stdout(grid)
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


def render_update_name(update: Update) -> Text:
    """Return the name, with the title if that says more."""
    name = to_safe_text(update.name)
    return Text.assemble(name, " ", to_safe_text(update.title, "dim")) if update.title else name


def render_version_change(update: Update, after: str | None = None) -> Text:
    """Return "old → new"."""
    new = after if after is not None else update.available
    return Text.assemble(to_safe_text(update.installed or "(new)", "dim"), " → ", to_safe_text(new))


def render_reboot_expectation(answer: YesNoUnknown) -> Text:
    """Return whether a reboot is expected."""
    return Text(REBOOT_LABELS[answer], style={YesNoUnknown.YES: "yellow", YesNoUnknown.NO: "dim"}.get(answer, ""))


def render_classification(update: Update) -> Text:
    """Return the classification of an update; urgent ones are red."""
    return Text(update.classification, style="red" if update.classification in URGENT_CLASSIFICATIONS else "")
