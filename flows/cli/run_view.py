"""A run on the screen: what was assessed, planned or done, a line a machine, and the reasons below."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.text import Text

from flows.approval_view import alike, headline
from flows.cli.screen import lines_of, number, right, safe, say, solid, state, table
from tasks.model import Plan, RunReport, Update, UpdateResult
from tasks.records.summary import RunSummary, pending_of
from tasks.reporting.flatten import tables
from tasks.reporting.rows import FindingRow, MachineRow, RunRow
from tasks.reporting.text import NOTHING, duration, moment, one_line, plural, zone_or_utc
from tasks.reporting.wording import say_basis, say_predicted
from tasks.rules.figures import REBOOT_WORDS, reboot_of
from tasks.rules.hooks import OF_A_MACHINE, stops
from tasks.rules.window import describe, say_duration, window_seconds
from tasks.states import URGENT, Answer, FindingLevel, OperationState

DETAILED = 4  # up to so many machines, plans show every update by themselves
NAMES_SHOWN = 6
HOOKS_SHOWN = 12
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MARKS = {FindingLevel.GOOD: "✓", FindingLevel.WARN: "!", FindingLevel.BLOCK: "✗"}


def told(report: RunReport) -> None:
    """Show a run as fits its kind."""
    if report.run.kind == "plan":
        planned(report)
    else:
        (assessed if report.run.kind == "assess" else ran)(report)


def tell_summary(summary: RunSummary) -> None:
    """Show a run that is no plan, by its summary."""
    show = assessed if summary.report.run.kind == "assess" else ran
    show(summary.report, summary)


def assessed(report: RunReport, summary: RunSummary | None = None) -> None:
    """Show what is pending on machines; ``summary`` has the numbers of a report without updates."""
    laid_out = tables(report, summary.results if summary else None)
    pending = summary.pending if summary else pending_of(report)
    grid = table(
        solid("machine"),
        solid("compliance"),
        right("crit+sec"),
        right("other"),
        solid("reboot"),
        right("restart"),
        right("seconds"),
    )
    for row in laid_out.machines:
        found = pending.get(row.machine)
        grid.add_row(
            safe(row.machine),
            state(row.compliance if found else "NotAssessed"),
            number(found.urgent, "red") if found else Text(NOTHING),
            number(found.total - found.urgent) if found else Text(NOTHING),
            state(row.reboot),
            number(row.services_to_restart.count(",") + bool(row.services_to_restart), "yellow")
            if found
            else Text(NOTHING),
            f"{row.seconds:.1f}" if row.seconds is not None else NOTHING,
        )
    say(grid)
    _tell_reasons(laid_out.machines, laid_out.findings)
    _summary(report, laid_out.runs[0])


def ran(report: RunReport, summary: RunSummary | None = None) -> None:
    """Show what became of machines; ``summary`` has the numbers of a report without updates."""
    laid_out = tables(report, summary.results if summary else None)
    grid = table(
        solid("machine"),
        right("wave"),
        solid("state"),
        right("installed"),
        right("failed"),
        right("not done"),
        right("skipped"),
        solid("reboot"),
        right("took"),
    )
    for row in laid_out.machines:
        grid.add_row(
            safe(row.machine),
            str(row.wave) if row.wave is not None else NOTHING,
            state(row.state, short=True),
            number(row.installed, "green"),
            number(row.failed, "bold red"),
            number(row.not_done, "yellow"),
            number(row.excluded + row.not_selected),
            state(row.reboot),
            duration(row.worked_seconds),
        )
    say(grid)
    _tell_reasons(laid_out.machines, laid_out.findings)
    _tell_around(report)
    _summary(report, laid_out.runs[0])


def planned(report: RunReport, *, details: bool = False) -> None:
    """Show what would be done, and why the rest would not."""
    plans = {plan.machine: plan for plan in report.plans}
    run = report.run
    say(Text.assemble(("Plan ", "bold"), (run.id, "bold"), ": nothing was changed"))
    if run.window is not None:
        say(f"Window {describe(run.window)}")
    say("")
    grid = table(
        right("wave"),
        solid("machine"),
        right("updates"),
        right("security"),
        right("skipped"),
        right("download"),
        right("minutes"),
        solid("reboot"),
    )
    laid_out = tables(report)
    rows = {row.machine: row for row in laid_out.machines}
    for wave in report.waves:
        for name in wave.machines:
            label = f"{wave.number}{' canary' if wave.canary else ''}"
            plan = plans.get(name)
            if plan is None:
                grid.add_row(label, safe(name), state(rows[name].state), "", "", "", "", "")
                continue
            grid.add_row(
                label,
                safe(name),
                number(len(plan.chosen), "bold"),
                number(sum(u.classification in URGENT for u in plan.chosen), "red"),
                number(len(plan.skipped)),
                size(sum(u.size_bytes or 0 for u in plan.chosen)),
                say_predicted(plan) if plan.chosen else NOTHING,
                expected(reboot_of(plan)),
            )
    say(grid)
    say("", f"In all: {headline(report)}")
    _tell_longer(report)
    wanting = [row for row in laid_out.machines if row.state != OperationState.NOT_STARTED or row.wave is None]
    _tell_reasons(wanting, laid_out.findings)
    groups = alike(report.plans)
    if details or len(groups) <= DETAILED:
        for names, plan in groups:
            tell_plan(plan, names)
    else:
        say("", f"Every update: --details, or fleetpatch show {run.id} --machine NAME")


def _tell_longer(report: RunReport) -> None:
    """Say which machines are predicted to take longer than the whole window."""
    window = report.run.window
    if window is None:
        return
    length = window_seconds(window)
    longer = [one_line(plan.machine) for plan in report.plans if plan.chosen and plan.prediction.total > length]
    if longer:
        what = f"Longer than the window of {say_duration(length)}: {', '.join(lines_of(longer, NAMES_SHOWN))}."
        say("", Text(f"{what} What does not fit is not attempted.", style="yellow"))


def tell_plan(plan: Plan, names: Sequence[str] = ()) -> None:
    """Show every update that is chosen on a machine (or on several that are alike), and the others by their reason."""
    whom = ", ".join(one_line(name) for name in lines_of(names or [plan.machine], NAMES_SHOWN))
    say("")
    grid = table(
        "update",
        solid("classification"),
        "installed → new",
        right("size"),
        title=f"{whom}: {plural(len(plan.chosen), 'update')} chosen, {len(plan.skipped)} skipped",
    )
    for update in sorted(plan.chosen, key=lambda each: (each.classification not in URGENT, each.name)):
        grid.add_row(safe(update.name), _kind(update), versions(update), size(update.size_bytes))
    if plan.chosen:
        say(grid)
    else:
        say(Text(f"{whom}: nothing to install", style="bold"))
    tell_by_reason(plan.skipped)
    if plan.chosen:
        p = plan.prediction
        parts = {"download": p.stage, "install": p.install, "reboot": p.reboot, "validate": p.validate}
        told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
        say(Text(f"  about {say_predicted(plan)} ({told}; {say_basis(p.basis)})", style="dim"))
    for remark in plan.notes:
        say(Text.assemble("  note: ", safe(remark)))


def tell_by_reason(results: Iterable[UpdateResult]) -> None:
    """Show updates that are not installed, grouped by why."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in results:
        groups[result.state.value, result.reason].append(result.update.name)
    for (label, reason), names in groups.items():
        shown = ", ".join(sorted(names)[:NAMES_SHOWN])
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        say(Text.assemble("  ", (f"{len(names)} ", "bold"), state(label), ": ", safe(reason)))
        say(Text.assemble("    ", safe(shown + more, "dim")))


def versions(update: Update, after: str | None = None) -> Text:
    """Return "old → new"."""
    new = after if after is not None else update.available
    return Text.assemble(safe(update.installed or "(new)", "dim"), " → ", safe(new))


def size(count: int | None) -> str:
    """Return bytes for people."""
    if count is None:
        return NOTHING
    if count < 1000:
        return f"{count} B"
    unit, value = next(
        (name, count / scale) for name, scale in _UNITS if count >= scale * 0.9995 or scale == _UNITS[-1][1]
    )
    return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"


def expected(answer: Answer) -> Text:
    """Return whether a reboot is to be expected."""
    return Text(REBOOT_WORDS[answer], style={Answer.YES: "yellow", Answer.NO: "dim"}.get(answer, ""))


def mark(level: FindingLevel) -> Text:
    """Return a finding's mark in its colour."""
    return Text(_MARKS[level], style=state(level).style)


def _kind(update: Update) -> Text:
    return Text(update.classification, style="red" if update.classification in URGENT else "")


def _tell_reasons(rows: Iterable[MachineRow], findings: Iterable[FindingRow] = ()) -> None:
    """Say why machines are not simply well, and what can be done."""
    remedies: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.level == FindingLevel.BLOCK and finding.remedy:
            remedies[finding.machine].append(finding.remedy)
    for row in rows:
        if row.state == OperationState.SUCCEEDED or not row.reason:
            continue
        say("", Text.assemble(safe(row.machine, "bold"), " ", state(row.state), ": ", safe(row.reason)))
        for hint in [row.error_hint] * bool(row.error_hint) + remedies[row.machine]:
            say(Text.assemble("  hint: ", safe(hint)))


def _tell_around(report: RunReport) -> None:
    """Say what people agreed to, and how the owner's hooks went that are about more than one machine, or failed."""
    for note in report.notes:
        say("", Text.assemble("note: ", safe(note)))
    told = [result for result in report.hooks if not result.succeeded or result.hook.place not in OF_A_MACHINE]
    if told:
        say("")
    for result in told[:HOOKS_SHOWN]:
        how = ("done", "green") if result.succeeded else ("failed", "red" if stops(result) else "yellow")
        what = safe(f"hook {result.hook.name} ({result.hook.place.replace('_', ' ')}, {result.subject})")
        say(Text.assemble(what, " ", how, ": " if result.message else "", safe(one_line(result.message))))
    if len(told) > HOOKS_SHOWN:
        say(Text(f"and {plural(len(told) - HOOKS_SHOWN, 'more hook')}: see the report", style="dim"))


def _summary(report: RunReport, row: RunRow) -> None:
    zone = zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    counts = {
        "Succeeded": row.machines_succeeded,
        "CompletedWithWarnings": row.machines_warnings,
        "Failed": row.machines_failed,
        "NotStarted": row.machines_not_started,
        "InProgress": row.machines_in_progress,
        "Unknown": row.machines_unknown,
    }
    told: Sequence[str] = [f"{count} {name}" for name, count in counts.items() if count]
    began = moment(report.run.started_at, zone)
    say(
        "",
        Text.assemble(
            (f"Run {row.run_id} ", "bold"),
            state(row.state),
            f": {plural(row.machines, 'machine')}, {', '.join(told)}; {began}, {duration(row.seconds)}",
        ),
    )
