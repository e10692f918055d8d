"""Renders a short Markdown summary of a run, and rows of its tables, for artifacts in the Prefect UI.

The UI renders both as Markdown, also table cells. So every text is escaped for Markdown and HTML: text from a machine
cannot become a link, a picture or a heading.
"""

import re
from typing import Final

from tasks.model import RunReport
from tasks.reporting.data.figure_columns import (
    build_machine_cells,
    build_update_cells,
    select_machine_columns,
    select_update_columns,
)
from tasks.reporting.data.groups import group_by_error, group_by_update, sort_worst_first, split_at_limit
from tasks.reporting.data.rows import RunRow
from tasks.reporting.data.tables import build_tables
from tasks.reporting.descriptions import RUN_KIND_TITLES
from tasks.reporting.formatting import format_count, format_known_duration, format_moment, load_zone_or_utc
from tasks.reporting.sanitizing import sanitize_to_one_line
from tasks.states import OperationState

TableValue = str | int

_SPECIAL_CHARACTERS: Final = re.compile(
    r"[\\`*_{}\[\]()#+!|~<>&\"'$^=@]"  # syntax of Markdown and HTML
    r"|:(?=//)|(?<=www)\."  # bare addresses would become links
    r"|^-|(?<=^\d)\.(?= )|(?<=^\d\d)\.(?= )|(?<=^\d\d\d)\.(?= )",  # a cell that begins with it would become a list
    re.IGNORECASE,
)
# Prefect's UI shows numeric references (&#43;) undecoded. Backslash escapes and these named references work.
_HTML_ENTITIES: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;"}
_MAX_ERROR_GROUPS: Final = 10
_MAX_NAMES: Final = 8
_MAX_CELL_CHARACTERS: Final = 200


def escape_markdown(text: str, limit: int = _MAX_CELL_CHARACTERS) -> str:
    """Return Markdown that shows the text literally, on one line, cut to ``limit`` characters."""
    return _SPECIAL_CHARACTERS.sub(
        lambda match: _HTML_ENTITIES.get(match.group(), f"\\{match.group()}"), sanitize_to_one_line(text, limit)
    )


def render_summary(report: RunReport) -> str:
    """Return the summary of a run: state, times, counts, and errors with their machines."""
    tables = build_tables(report)
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


def build_machine_rows(report: RunReport, limit: int = 500) -> list[dict[str, TableValue]]:
    """Return a row for each machine, worst state first, at most ``limit`` rows. The page shows the same figures."""
    tables = build_tables(report)
    kind = report.run.kind
    heads = [column.label for column in select_machine_columns(kind)]
    rows: list[dict[str, TableValue]] = []
    for row in sort_worst_first(tables.machines)[:limit]:
        figures: dict[str, TableValue] = {"Machine": escape_markdown(row.machine), "State": row.state}
        for head, cell in zip(heads, build_machine_cells(row, kind), strict=True):
            figures[head] = cell.text if cell.value is None else cell.value
        figures["Reason"] = escape_markdown(row.reason)
        rows.append(figures)
    return rows


def build_update_table(report: RunReport, limit: int = 500) -> list[dict[str, TableValue]]:
    """Return a row for each update over all machines, at most ``limit`` rows. The page shows the same figures.

    Critical and security updates that are not installed come first.
    """
    kind = report.run.kind
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
        for group in group_by_update(build_tables(report).updates)[:limit]
    ]


def _build_facts(run: RunRow) -> list[str]:
    zone = load_zone_or_utc(run.window_zone or "UTC")
    facts = []
    if run.scope:
        facts.append(f"Scope: {escape_markdown(run.scope)}")
    if run.window_start and run.window_end:
        facts.append(
            f"Window: {format_moment(run.window_start, zone)} to {format_moment(run.window_end, zone)} ({zone})"
        )
    facts.append(f"Took: {format_known_duration(run.seconds)}" if run.ended_at else "Not ended yet")
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
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f": {told}" if told else ""
