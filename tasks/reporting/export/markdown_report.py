"""Renders the complete report as Markdown, for a Prefect artifact. Users of Prefect's UI need no access to the files.

Its size is limited. For a large fleet, machines with problems come first, and the text says how many are left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.model import Outcome, RunReport
from tasks.reporting.data.groups import ReasonGroup, group_by_reason, sort_worst_first, split_at_limit
from tasks.reporting.data.tables import build_tables
from tasks.reporting.export.markdown_summary import (
    TableValue,
    build_machine_rows,
    build_update_table,
    escape_markdown,
    render_summary,
)
from tasks.reporting.formatting import format_count, format_known_duration, format_time_of_day, load_zone_or_utc
from tasks.states import FindingLevel, OperationState, UpdateState

MAX_CHARACTERS: Final = 150_000


@dataclass(frozen=True, slots=True)
class _DetailLimits:
    """Limits of the text.

    Attributes:
        table_rows: rows in each table.
        machines: machines with their own section.
        lines_per_machine: lines in each part of such a section.
    """

    table_rows: int
    machines: int
    lines_per_machine: int


_DETAIL_LEVELS: Final = (
    _DetailLimits(500, 100, 60),
    _DetailLimits(300, 40, 30),
    _DetailLimits(150, 20, 15),
    _DetailLimits(50, 5, 10),
    _DetailLimits(5, 1, 3),
)


def render_markdown_report(report: RunReport, files: str = "") -> str:
    """Return the report: summary, machines, reasons, updates, and a section for each machine with problems.

    Args:
        report: the report.
        files: the place of the report's files, as text; "" if there are no files.
    """
    text = ""
    for detail in _DETAIL_LEVELS:
        text = _render_with_limits(report, files, detail)
        if len(text) <= MAX_CHARACTERS:
            break
    return text


def _render_with_limits(report: RunReport, files: str, detail: _DetailLimits) -> str:
    tables = build_tables(report)
    lines = [render_summary(report)]
    if files:
        lines += [f"Files of this report: {escape_markdown(files, 400)}", ""]
    lines += _render_table("Machines", build_machine_rows(report, detail.table_rows), len(tables.machines))
    reasons = group_by_reason(tables.updates)
    lines += _render_table("Why not", list(map(_build_reason_row, reasons[: detail.table_rows])), len(reasons))
    different = len({(row.name, row.kb) for row in tables.updates})
    lines += _render_table("Updates", build_update_table(report, detail.table_rows), different)
    outcomes = {outcome.machine: outcome for outcome in report.outcomes}
    worst = [row.machine for row in sort_worst_first(tables.machines) if row.state in _STATES_NEEDING_ATTENTION]
    named, more = split_at_limit([name for name in worst if name in outcomes], detail.machines)
    for name in named:
        lines += _render_machine(report, outcomes[name], detail.lines_per_machine)
    if more:
        lines += [f"Besides, {format_count(more, 'machine')} to look at.", ""]
    return "\n".join(lines)


_STATES_NEEDING_ATTENTION: Final = frozenset(
    {OperationState.FAILED, OperationState.UNKNOWN, OperationState.IN_PROGRESS, OperationState.COMPLETED_WITH_WARNINGS}
)


_NOT_INSTALLED_STATES: Final = frozenset({UpdateState.FAILED, UpdateState.NOT_ATTEMPTED, UpdateState.PENDING})


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
        said = f": {escape_markdown(step.message)}" if step.message else ""
        lines.append(f"- {format_time_of_day(step.started_at, zone)} {step.step} {step.state}, {took}{said}")
    wanting = [finding for finding in outcome.findings if finding.level is not FindingLevel.GOOD]
    for finding in wanting[:limit]:
        lines.append(f"- **{finding.level}** {escape_markdown(finding.check, 80)}: {escape_markdown(finding.message)}")
        if finding.remedy:
            lines.append(f"- remedy: {escape_markdown(finding.remedy)}")
    left = [result for result in outcome.updates if result.state in _NOT_INSTALLED_STATES]
    lines += [
        f"- {escape_markdown(each.update.name, 80)} {each.state}: {escape_markdown(each.reason)}"
        for each in left[:limit]
    ]
    if len(left) > limit:
        lines.append(f"- not installed besides: {format_count(len(left) - limit, 'update')}")
    return [*lines, ""]
