"""Renders a run as Markdown for artifacts in Prefect's UI: a short summary, the complete report, and rows of tables.

Users of the UI need no access to the files. The size of the report is limited: for a large fleet, machines with
problems come first, and the text says how many are left out. The UI renders all of it as Markdown, also table cells. So
every text is escaped for Markdown and HTML: text from a machine cannot become a link, a picture or a heading.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Outcome, RunReport
from tasks.domain.states import FAILED_UPDATE_STATES, NOT_DONE_UPDATE_STATES, FindingLevel, OperationState
from tasks.reports.data.figure_cells import (
    build_machine_cells,
    build_update_cells,
    select_machine_columns,
    select_update_columns,
)
from tasks.reports.data.groups import (
    ReasonGroup,
    group_by_error,
    group_by_reason,
    group_by_update,
    sort_worst_first,
    split_at_limit,
)
from tasks.reports.data.rows import RunReportRow, Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.formatting import (
    RUN_KIND_TITLES,
    format_count,
    format_known_duration,
    format_moment,
    format_scope,
    format_time_of_day,
    load_zone_or_utc,
)
from tasks.reports.sanitizing import escape_markdown

TableValue = str | int

_MAX_ERROR_GROUPS: Final = 10
_MAX_NAMES: Final = 8
MAX_CHARACTERS: Final = 150_000
MAX_TABLE_ROWS: Final = 500
_STATES_NEEDING_ATTENTION: Final = frozenset(
    {OperationState.FAILED, OperationState.UNKNOWN, OperationState.IN_PROGRESS, OperationState.COMPLETED_WITH_WARNINGS}
)
_NOT_INSTALLED_STATES: Final = FAILED_UPDATE_STATES | NOT_DONE_UPDATE_STATES


@dataclass(frozen=True, slots=True)
class _DetailLimits:
    """Limits of the text."""

    table_rows: int  # rows in each table
    machines: int  # machines with their own section
    lines_per_machine: int  # lines in each part of such a section


_DETAIL_LEVELS: Final = (
    _DetailLimits(500, 100, 60),
    _DetailLimits(300, 40, 30),
    _DetailLimits(150, 20, 15),
    _DetailLimits(50, 5, 10),
    _DetailLimits(5, 1, 3),
)


def limit_markdown(text: str, more: str) -> str:
    """Return a text that Prefect's UI can show: cut at the end of a line, with a sentence where the rest is."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS].rpartition(chr(10))[0]}\n\n{more}\n"


def render_summary(report: RunReport, tables: Tables | None = None) -> str:
    """Return the summary of a run: state, times, counts, and errors with their machines.

    Here and below, ``tables`` are those of the report, if the caller already has them.
    """
    tables = tables or build_tables(report)
    run = tables.runs[0]
    lines = [
        f"## {escape_markdown(RUN_KIND_TITLES.get(run.kind, run.kind))} {escape_markdown(run.run_id)}: {run.state}",
        "",
    ]
    if run.message:
        lines += [escape_markdown(run.message, 400), ""]
    lines += [f"- {line}" for line in _build_facts(run)]
    wrong = group_by_error(tables.machines, run.kind)
    if wrong:
        lines += ["", "### Needs a look", ""]
    for trouble in wrong[:_MAX_ERROR_GROUPS]:
        named, more = split_at_limit(trouble.machines, _MAX_NAMES)
        names = ", ".join(escape_markdown(name, 60) for name in named) + (f" and {more} more" if more else "")
        hint = f". {escape_markdown(trouble.hint)}" if trouble.hint else ""
        lines.append(f"- **{trouble.state}** {names}: {escape_markdown(trouble.reason or 'no reason was given')}{hint}")
    if len(wrong) > _MAX_ERROR_GROUPS:
        lines.append(f"- and {format_count(len(wrong) - _MAX_ERROR_GROUPS, 'more reason')}")
    lines += _render_notes_and_hooks(report)
    return "\n".join(lines) + "\n"


def _render_notes_and_hooks(report: RunReport) -> list[str]:
    """Return the lines of the run's notes and of its failed hooks, and a count of all hooks."""
    lines = [f"- {escape_markdown(note)}" for note in report.notes[:_MAX_ERROR_GROUPS]]
    failed = [result for result in report.hooks if not result.succeeded]
    for result in failed[:_MAX_ERROR_GROUPS]:
        hook = result.hook
        whose = f"**hook {escape_markdown(hook.name)}** ({hook.place}, {escape_markdown(result.subject, 60)})"
        lines.append(f"- {whose} failed, {hook.mode}: {escape_markdown(result.message)}")
    if report.hooks:
        lines.append(f"- {format_count(len(report.hooks), 'hook')} run, {len(failed)} failed")
    return ["", "### Before and after", "", *lines] if lines else []


def limit_table(rows: Sequence[dict[str, TableValue]], description: str) -> tuple[Sequence[dict[str, TableValue]], str]:
    """Return the first rows of a table, as many as Prefect's UI can show, and its description, which says so."""
    if len(rows) <= MAX_TABLE_ROWS:
        return rows, description
    return rows[:MAX_TABLE_ROWS], f"{description} (the first {MAX_TABLE_ROWS} of {len(rows)} rows)"


def build_machine_rows(
    report: RunReport, limit: int | None = None, tables: Tables | None = None
) -> list[dict[str, TableValue]]:
    """Return a row for each machine, worst state first, at most ``limit`` rows. The page shows the same figures."""
    tables, kind = tables or build_tables(report), report.run.kind
    heads = [column.label for column in select_machine_columns(kind)]
    rows: list[dict[str, TableValue]] = []
    for row in sort_worst_first(tables.machines)[:limit]:
        figures: dict[str, TableValue] = {"Machine": escape_markdown(row.machine), "State": row.state}
        for head, cell in zip(heads, build_machine_cells(row, kind), strict=True):
            figures[head] = cell.text if cell.value is None else cell.value
        figures["Reason"] = escape_markdown(row.reason)
        rows.append(figures)
    return rows


def build_update_table(
    report: RunReport, limit: int | None = None, tables: Tables | None = None
) -> list[dict[str, TableValue]]:
    """Return a row for each update over all machines, at most ``limit`` rows. The page shows the same figures.

    Critical and security updates that are not installed come first.
    """
    tables, kind = tables or build_tables(report), report.run.kind
    heads = [column.label for column in select_update_columns(kind)]
    return [
        {
            "Update": escape_markdown(group.name),
            "Class": group.classification,
            "Version": escape_markdown(", ".join(split_at_limit(list(group.versions), 2)[0])),
            **{
                head: cell.text if cell.value is None else cell.value
                for head, cell in zip(heads, build_update_cells(group, kind), strict=True)
            },
        }
        for group in group_by_update(tables.updates)[:limit]
    ]


def _build_facts(run: RunReportRow) -> list[str]:
    zone = load_zone_or_utc(run.window_zone or "UTC")
    facts = []
    if run.scope:
        facts.append(f"Scope: {escape_markdown(format_scope(run.scope))}")
    if run.window_start and run.window_end:
        facts.append(
            f"Window: {format_moment(run.window_start, zone)} to {format_moment(run.window_end, zone)} ({zone})"
        )
    facts.append(f"Lasted: {format_known_duration(run.seconds)}" if run.ended_at else "Not ended yet")
    states = {
        OperationState.SUCCEEDED: run.machines_succeeded,
        OperationState.COMPLETED_WITH_WARNINGS: run.machines_warnings,
        OperationState.FAILED: run.machines_failed,
        OperationState.IN_PROGRESS: run.machines_in_progress,
        OperationState.NOT_STARTED: run.machines_not_started,
        OperationState.UNKNOWN: run.machines_unknown,
    }
    facts.append(f"Machines: {run.machines}{_render_counts({state.value: n for state, n in states.items()})}")
    counts = {
        "installed": run.installed,
        "repaired": run.repaired,
        "failed": run.failed,
        "setup failed": run.setup_failed,
        "blocked": run.blocked,
        "not attempted": run.not_attempted,
        "pending": run.pending,
        "excluded": run.excluded,
        "not selected": run.not_selected,
    }
    facts.append(f"Updates: {run.updates}{_render_counts(counts)}")
    facts.append(f"Critical and security updates still pending: **{run.urgent_pending}**")
    reboots = {"done": run.reboots_completed, "failed": run.reboots_failed, "still required": run.reboots_required}
    if any(reboots.values()):
        facts.append(f"Reboots{_render_counts(reboots)}")
    return facts


def _render_counts(counts: dict[str, int]) -> str:
    counts_text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f": {counts_text}" if counts_text else ""


def render_markdown_report(report: RunReport, files: str = "", tables: Tables | None = None) -> str:
    """Return the report: summary, machines, reasons, updates, and a section for each machine with problems.

    ``files``: the place of the report's files, as text; "" if there are no files.
    ``tables``: see render_summary.
    """
    text, tables = "", tables or build_tables(report)
    for detail in _DETAIL_LEVELS:
        text = _render_with_limits(report, tables, files, detail)
        if len(text) <= MAX_CHARACTERS:
            break
    return text


def _render_with_limits(report: RunReport, tables: Tables, files: str, detail: _DetailLimits) -> str:
    lines = [render_summary(report, tables)]
    if files:
        lines += [f"Files of this report: {escape_markdown(files, 400)}", ""]
    lines += _render_table("Machines", build_machine_rows(report, detail.table_rows, tables), len(tables.machines))
    reasons = group_by_reason(tables.updates)
    lines += _render_table("Why not", list(map(_build_reason_row, reasons[: detail.table_rows])), len(reasons))
    different = len({(row.name, row.kb) for row in tables.updates})
    lines += _render_table("Updates", build_update_table(report, detail.table_rows, tables), different)
    outcomes = {outcome.machine: outcome for outcome in report.outcomes}
    worst = [row.machine for row in sort_worst_first(tables.machines) if row.state in _STATES_NEEDING_ATTENTION]
    named, more = split_at_limit([name for name in worst if name in outcomes], detail.machines)
    for name in named:
        lines += _render_machine(report, outcomes[name], detail.lines_per_machine)
    if more:
        lines += [f"Besides, {format_count(more, 'machine')} to look at.", ""]
    return "\n".join(lines)


def _build_reason_row(group: ReasonGroup) -> dict[str, TableValue]:
    named, more = split_at_limit(list(group.names), 3)
    return {
        "State": group.state,
        "Updates": group.update_count,
        "Machines": len(group.machines),
        "Such as": ", ".join(escape_markdown(name, 60) for name in named) + (" …" if more else ""),
        "Reason": escape_markdown(group.reason) + (" (figures differ)" if group.has_varying_figures else ""),
    }


def _render_table(title: str, rows: Sequence[dict[str, TableValue]], in_all: int) -> list[str]:
    """Return a title and a table of the rows; nothing if there are no rows. The caller has escaped the texts."""
    if not rows:
        return []
    heads = list(rows[0])
    lines = [
        f"### {title}",
        "",
        _render_table_row(heads),
        "|" + "---|" * len(heads),
        *(_render_table_row(row.values()) for row in rows),
        "",
    ]
    if in_all > len(rows):
        lines += [f"And {in_all - len(rows)} more.", ""]
    return lines


def _render_table_row(cells: Iterable[TableValue]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _render_machine(report: RunReport, outcome: Outcome, limit: int) -> list[str]:
    zone = load_zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    lines = [f"### {escape_markdown(outcome.machine)}: {outcome.state}", "", escape_markdown(outcome.reason, 600), ""]
    if outcome.error is not None and outcome.error.hint:
        lines.append(f"- hint: {escape_markdown(outcome.error.hint)}")
    for step in outcome.steps[:limit]:
        took = format_known_duration((step.ended_at - step.started_at).total_seconds())
        message = f": {escape_markdown(step.message)}" if step.message else ""
        lines.append(f"- {format_time_of_day(step.started_at, zone)} {step.step} {step.state}, {took}{message}")
    wanting = [finding for finding in outcome.findings if finding.level is not FindingLevel.GOOD]
    for finding in wanting[:limit]:
        lines.append(f"- **{finding.level}** {escape_markdown(finding.check, 80)}: {escape_markdown(finding.message)}")
        if finding.remedy:
            lines.append(f"- remedy: {escape_markdown(finding.remedy)}")
    left = [result for result in outcome.updates if result.state in _NOT_INSTALLED_STATES]
    lines += [
        f"- {escape_markdown(step_text.update.name, 80)} {step_text.state}: {escape_markdown(step_text.reason)}"
        for step_text in left[:limit]
    ]
    if len(left) > limit:
        lines.append(f"- not installed besides: {format_count(len(left) - limit, 'update')}")
    return [*lines, ""]
