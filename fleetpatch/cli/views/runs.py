"""Prints runs, their machines, journals and logs, and builds their JSON."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from itertools import islice
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import (
    print_to_stdout,
    render_count,
    render_marked_line,
    render_state,
    to_safe_lines,
    to_safe_text,
)
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_json, build_list_table, build_row_table
from inventory.name_lists import join_first_names
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.rows.runs import RunRow, ShardRow
from tasks.domain.states import FindingLevel, OperationState
from tasks.records.queries.history import History
from tasks.records.queries.run_summary import RunSummary, count_pending_updates
from tasks.records.queries.whole_journal import read_whole_journal
from tasks.reports.data.rows import FindingRow, MachineReportRow, RunReportRow
from tasks.reports.data.tables import build_tables
from tasks.reports.export.json_document import build_document
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import format_count, format_known_duration, format_moment, load_zone_or_utc
from tasks.reports.log_files import sanitize_log
from tasks.reports.sanitizing import sanitize_to_one_line
from tasks.rules.runs.figures import UpdateCounts
from tasks.rules.runs.hooks import MACHINE_PLACES, is_blocking_failure


def print_runs(runs: Sequence[RunRow], other_fleets: str) -> None:
    """Print runs as a table; without one, a sentence about other fleets in the same database."""
    if not runs:
        print_to_stdout(f"There is no run yet. {other_fleets or 'Start with: fleetpatch assess'}")
        return
    columns = (
        *("run_id", "kind", "state", "started_at"),
        Shown("ended_at", heading="lasted", is_number=True, render=lambda run: format_known_duration(run.seconds)),
        Shown("scope", limit=40),
        Shown("started_by", limit=20, wraps=True),
    )
    print_to_stdout(build_row_table(RunRow, runs, columns))


def print_shards(shards: Sequence[ShardRow]) -> None:
    """Print the shards of a run; nothing if it has none."""
    if not shards:
        return
    silent: tuple[str, ...] = ("silent_since",) if any(shard.silent_since for shard in shards) else ()
    columns = ("run_id", "site", "kind", "wave", "machines", "state", "started_at", "ended_at", *silent, "message")
    print_to_stdout("", build_row_table(ShardRow, shards, columns, title="Carried out by"))


def build_show_json(
    history: History, report: RunReport, machine: str | None, shards: Sequence[ShardRow], *, log: bool, journal: bool
) -> dict[str, object]:
    """Return a run (or one machine of it) as JSON data, with its journal and logs on request."""
    report_json = build_document(build_tables(report)) | {"shards": list(map(build_row_json, shards))}
    if machine is not None:
        rows = report_json["machines"]
        assert isinstance(rows, list)  # noqa: S101 - for the type checker
        report_json["machines"] = [row for row in rows if row["machineName"] == machine]
    if journal:
        report_json["journal"] = build_list_json(JOURNAL_FACTS, read_whole_journal(history, report.run.id, machine))
    if log:
        logs = history.open_job_logs(report.run.id, machine)
        report_json["logs"] = dict(logs)
        logs.require_readable()
    return report_json


JOURNAL_FACTS: Final[Sequence[Fact[JournalEntry]]] = (
    Fact("", lambda entry: entry.at.astimezone(UTC).isoformat(" ", "seconds")[11:19], "at (UTC)"),
    Fact("machineName", lambda entry: entry.machine, "machine"),
    Fact("step", lambda entry: entry.step, "step"),
    Fact("mark", lambda entry: entry.mark, "mark"),
    Fact("act", lambda entry: entry.act, "act"),
    Fact("key", lambda entry: entry.key, "key", wraps=True),
    Fact("dateTime", lambda entry: entry.at),
    Fact("detail", lambda entry: entry.detail),
)


def print_journal(entries: Sequence[JournalEntry]) -> None:
    """Print a journal."""
    if entries:
        print_to_stdout(build_list_table(JOURNAL_FACTS, entries))
    else:
        print_to_stdout("The journal is empty: the run began nothing that changes a machine.")


def print_job_logs(history: History, run_id: str, machine: str | None) -> None:
    """Print the sanitized output of package managers, machine by machine."""
    logs = history.open_job_logs(run_id, machine)
    for name, text in logs.items():
        print_to_stdout(Text.assemble("== ", to_safe_text(name, "bold")), to_safe_lines(sanitize_log(text)))
    if not logs:
        print_to_stdout("No output is recorded: the run started no job.")
    logs.require_readable()


MAX_HOOKS = 12
MAX_PROBLEMS = 12


def print_run_summary(summary: RunSummary) -> None:
    """Print the summary of a run that is not a plan."""
    print_report = print_assessments if summary.report.run.kind == "assess" else print_patch_run
    print_report(summary.report, summary)


def print_assessments(report: RunReport, summary: RunSummary | None = None) -> None:
    """Print what is pending on machines; ``summary`` has the numbers of a report without updates."""
    report_tables = build_tables(report, summary.results if summary else None)
    pending = summary.pending if summary else count_pending_updates(report)

    def render(row: MachineReportRow, count: Callable[[UpdateCounts], int], style: str = "") -> Text | None:
        counts = pending.get(row.machine)
        return render_count(count(counts), style) if counts else None

    def count_services(row: MachineReportRow) -> int:
        return row.services_to_restart.count(",") + bool(row.services_to_restart)

    facts: Sequence[Fact[MachineReportRow]] = (
        Fact("", lambda row: row.machine, "machine"),
        Fact("", lambda row: render_state(row.compliance if pending.get(row.machine) else "NotAssessed"), "compliance"),
        Fact("", lambda row: render(row, lambda counts: counts.urgent, "red"), "crit+sec", is_number=True),
        Fact("", lambda row: render(row, lambda counts: counts.total - counts.urgent), "other", is_number=True),
        Fact("", lambda row: render_state(row.reboot), "reboot"),
        Fact("", lambda row: render(row, lambda _: count_services(row), "yellow"), "restart", is_number=True),
        Fact("", lambda row: None if row.seconds is None else f"{row.seconds:.1f}", "seconds", is_number=True),
    )
    print_to_stdout(build_list_table(facts, report_tables.machines))
    print_machine_reasons(report_tables.machines)
    _print_problems(report_tables.findings)  # with their remedies
    _print_remarks(report_tables.findings)
    _print_totals(report, report_tables.runs[0])


def _print_problems(findings: Iterable[FindingRow]) -> None:
    """Print each warning and blocking problem once, with the machines that it is about, and its remedy."""
    machines = _group_machines(findings, FindingLevel.WARN, FindingLevel.BLOCK)
    for (message, remedy), names in islice(machines.items(), MAX_PROBLEMS):
        print_to_stdout("", Text.assemble(to_safe_text(join_first_names(names), "bold"), ": ", to_safe_text(message)))
        print_to_stdout(Text.assemble("  hint: ", to_safe_text(remedy)))
    if len(machines) > MAX_PROBLEMS:
        print_to_stdout("", f"{len(machines) - MAX_PROBLEMS} more problems are in the report.")


def _print_remarks(findings: Iterable[FindingRow]) -> None:
    """Print each remark once, with the machines that it is about."""
    machines = _group_machines(findings, FindingLevel.REMARK)
    if machines:
        print_to_stdout("")
    for (message, _), names in islice(machines.items(), MAX_PROBLEMS):
        print_to_stdout(render_marked_line(FindingLevel.REMARK, join_first_names(names), message))
    if len(machines) > MAX_PROBLEMS:
        print_to_stdout(f"{len(machines) - MAX_PROBLEMS} more remarks are in the report.")


def _group_machines(findings: Iterable[FindingRow], *levels: FindingLevel) -> dict[tuple[str, str], list[str]]:
    """Return the message and the remedy of each finding of these levels, with its machines."""
    machines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in findings:
        if finding.level in levels:
            machines[finding.message, finding.remedy].append(finding.machine)
    return machines


RESULT_FACTS: Final[Sequence[Fact[MachineReportRow]]] = (
    Fact("", lambda row: row.machine, "machine"),
    Fact("", lambda row: row.wave, "wave", is_number=True),
    Fact("", lambda row: render_state(row.state, short=True), "state"),
    Fact("", lambda row: render_count(row.installed, "green"), "installed", is_number=True),
    Fact("", lambda row: render_count(row.failed + row.setup_failed, "bold red"), "failed", is_number=True),
    Fact("", lambda row: render_count(row.not_done, "yellow"), "not done", is_number=True),
    Fact("", lambda row: render_count(row.excluded + row.not_selected), "skipped", is_number=True),
    Fact("", lambda row: render_state(row.reboot), "reboot"),
    Fact("", lambda row: format_known_duration(row.worked_seconds), "took", is_number=True),
)


def print_patch_run(report: RunReport, summary: RunSummary | None = None) -> None:
    """Print the results of machines; ``summary`` has the numbers of a report without updates."""
    report_tables = build_tables(report, summary.results if summary else None)
    print_to_stdout(build_list_table(RESULT_FACTS, report_tables.machines))
    print_machine_reasons(report_tables.machines, report_tables.findings)
    _print_remarks(report_tables.findings)
    _print_notes_and_hooks(report)
    _print_totals(report, report_tables.runs[0])


def print_machine_reasons(rows: Iterable[MachineReportRow], findings: Iterable[FindingRow] = ()) -> None:
    """Print the reason of each machine that did not succeed, and the remedies."""
    remedies: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.level in (FindingLevel.WARN, FindingLevel.BLOCK) and finding.remedy:
            remedies[finding.machine].append(finding.remedy)
    for row in rows:
        if row.state == OperationState.SUCCEEDED or not row.reason:
            continue
        print_to_stdout(
            "",
            Text.assemble(
                to_safe_text(row.machine, "bold"), " ", render_state(row.state), ": ", to_safe_text(row.reason)
            ),
        )
        for hint in dict.fromkeys([row.error_hint] * bool(row.error_hint) + remedies[row.machine]):
            print_to_stdout(Text.assemble("  hint: ", to_safe_text(hint)))


def _print_notes_and_hooks(report: RunReport) -> None:
    """Print the notes, the hooks of the run and its waves, and the failed hooks of machines."""
    for note in report.notes:
        print_to_stdout("", Text.assemble("note: ", to_safe_text(note)))
    shown_results = [
        result for result in report.hooks if not result.succeeded or result.hook.place not in MACHINE_PLACES
    ]
    if shown_results:
        print_to_stdout("")
    for result in shown_results[:MAX_HOOKS]:
        end = ("done", "green") if result.succeeded else ("failed", "red" if is_blocking_failure(result) else "yellow")
        subject = to_safe_text(f"hook {result.hook.name} ({result.hook.place.replace('_', ' ')}, {result.subject})")
        print_to_stdout(
            Text.assemble(
                subject, " ", end, ": " if result.message else "", to_safe_text(sanitize_to_one_line(result.message))
            )
        )
    if len(shown_results) > MAX_HOOKS:
        print_to_stdout(
            Text(f"{format_count(len(shown_results) - MAX_HOOKS, 'more hook')}: see the report", style="dim")
        )


def _print_totals(report: RunReport, row: RunReportRow) -> None:
    zone = load_zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    counts = {
        "Succeeded": row.machines_succeeded,
        "CompletedWithWarnings": row.machines_warnings,
        "Failed": row.machines_failed,
        "NotStarted": row.machines_not_started,
        "InProgress": row.machines_in_progress,
        "Unknown": row.machines_unknown,
    }
    count_texts: Sequence[str] = [f"{count} {name}" for name, count in counts.items() if count]
    began = format_moment(report.run.started_at, zone)
    duration = format_known_duration(row.seconds)
    print_to_stdout(
        "",
        Text.assemble(
            (f"Run {row.run_id} ", "bold"),
            render_state(row.state),
            f": {format_count(row.machines, 'machine')}, {', '.join(count_texts)}; {began}, {duration}",
        ),
    )
    if report.run.state is OperationState.CANCELLED:
        print_to_stdout(Text.assemble(to_safe_text(report.run.message), style="yellow"))
