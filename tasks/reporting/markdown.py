"""A run in a few lines of Markdown, and its tables as rows of text: for artifacts in the Prefect UI.

That UI reads both as Markdown, the cells of a table too. So every text is escaped for Markdown and for HTML: what a
machine calls itself can't become a link, a picture or a heading.
"""

import re
from typing import Final

from tasks.model import RunReport
from tasks.reporting.columns import cells, columns, update_cells, update_columns
from tasks.reporting.flatten import tables
from tasks.reporting.groups import by_update, share, troubles, worst_first
from tasks.reporting.page import KINDS
from tasks.reporting.rows import RunRow
from tasks.reporting.text import duration, moment, one_line, plural, zone_or_utc
from tasks.states import OperationState

Cell = str | int

_ACTIVE: Final = re.compile(
    r"[\\`*_{}\[\]()#+!|~<>&\"'$^=@]"  # what Markdown and HTML are made of
    r"|:(?=//)|(?<=www)\."  # bare addresses become links
    r"|^-|(?<=^\d)\.(?= )|(?<=^\d\d)\.(?= )|(?<=^\d\d\d)\.(?= )",  # a list, when a cell begins with it
    re.IGNORECASE,
)
# Prefect's UI shows numeric references (&#43;) as they are written; backslashes and these names everybody reads.
_NAMED: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;"}
_MOST_TROUBLES: Final = 10
_MOST_NAMES: Final = 8
_CELL: Final = 200


def escape(text: str, limit: int = _CELL) -> str:
    """Return text as Markdown that shows it as it is: on one line, cut to that many characters."""
    return _ACTIVE.sub(lambda match: _NAMED.get(match.group(), f"\\{match.group()}"), one_line(text, limit))


def summary(report: RunReport) -> str:
    """Return the run in a few lines: state, times, counts, and what went wrong with which machines."""
    laid_out = tables(report)
    run = laid_out.runs[0]
    lines = [f"## {escape(KINDS.get(run.kind, run.kind))} {escape(run.run_id)}: {run.state}", ""]
    if run.message:
        lines += [escape(run.message, 400), ""]
    lines += [f"- {line}" for line in _facts(run)]
    wrong = troubles(laid_out.machines, run.kind)
    if wrong:
        lines += ["", "### Needs a look", ""]
    for trouble in wrong[:_MOST_TROUBLES]:
        named, more = share(trouble.machines, _MOST_NAMES)
        names = ", ".join(escape(name, 60) for name in named) + (f" and {more} more" if more else "")
        hint = f". {escape(trouble.hint)}" if trouble.hint else ""
        lines.append(f"- **{trouble.state}** {names}: {escape(trouble.reason or 'no reason was given')}{hint}")
    if len(wrong) > _MOST_TROUBLES:
        lines.append(f"- and {plural(len(wrong) - _MOST_TROUBLES, 'more reason')}")
    lines += _around(report)
    return "\n".join(lines) + "\n"


def _around(report: RunReport) -> list[str]:
    """Return what people said of the run, and the owner's hooks, those that failed first."""
    lines = [f"- {escape(note)}" for note in report.notes[:_MOST_TROUBLES]]
    failed = [result for result in report.hooks if not result.succeeded]
    for result in failed[:_MOST_TROUBLES]:
        hook = result.hook
        whose = f"**hook {escape(hook.name)}** ({hook.place}, {escape(result.subject, 60)})"
        lines.append(f"- {whose} failed, {hook.mode}: {escape(result.message)}")
    if report.hooks:
        lines.append(f"- {plural(len(report.hooks), 'hook')} run, {len(failed)} failed")
    return ["", "### Before and after", "", *lines] if lines else []


def machine_rows(report: RunReport, limit: int = 500) -> list[dict[str, Cell]]:
    """Return a row a machine, worst first, at most so many; the figures are those of the page."""
    laid_out = tables(report)
    kind = report.run.kind
    heads = [column.label for column in columns(kind)]
    rows: list[dict[str, Cell]] = []
    for row in worst_first(laid_out.machines)[:limit]:
        figures: dict[str, Cell] = {"Machine": escape(row.machine), "State": row.state}
        for head, cell in zip(heads, cells(row, kind), strict=True):
            figures[head] = cell.text if cell.value is None else cell.value
        figures["Reason"] = escape(row.reason)
        rows.append(figures)
    return rows


def update_rows(report: RunReport, limit: int = 500) -> list[dict[str, Cell]]:
    """Return a row an update over all machines, the urgent that are not installed first; the figures of the page."""
    kind = report.run.kind
    heads = [column.label for column in update_columns(kind)]
    return [
        {
            "Update": escape(group.name),
            "Class": group.classification,
            "Version": escape(", ".join(share(list(group.versions), 2)[0])),
            **{
                head: cell.text if cell.value is None else cell.value
                for head, cell in zip(heads, update_cells(group, kind), strict=True)
            },
        }
        for group in by_update(tables(report).updates)[:limit]
    ]


def _facts(run: RunRow) -> list[str]:
    zone = zone_or_utc(run.window_zone or "UTC")
    facts = []
    if run.scope:
        facts.append(f"Scope: {escape(run.scope)}")
    if run.window_start and run.window_end:
        facts.append(f"Window: {moment(run.window_start, zone)} to {moment(run.window_end, zone)} ({zone})")
    facts.append(f"Took: {duration(run.seconds)}" if run.ended_at else "Not ended yet")
    states = {
        OperationState.SUCCEEDED: run.machines_succeeded,
        OperationState.COMPLETED_WITH_WARNINGS: run.machines_warnings,
        OperationState.FAILED: run.machines_failed,
        OperationState.IN_PROGRESS: run.machines_in_progress,
        OperationState.NOT_STARTED: run.machines_not_started,
        OperationState.UNKNOWN: run.machines_unknown,
    }
    facts.append(f"Machines: {run.machines}{_listed({state.value: n for state, n in states.items()})}")
    counts = {
        "installed": run.installed,
        "repaired": run.repaired,
        "failed": run.failed,
        "not attempted": run.not_attempted,
        "pending": run.pending,
        "excluded": run.excluded,
        "not selected": run.not_selected,
    }
    facts.append(f"Updates: {run.updates}{_listed(counts)}")
    facts.append(f"Critical and security updates still pending: **{run.urgent_pending}**")
    reboots = {"done": run.reboots_completed, "failed": run.reboots_failed, "still required": run.reboots_required}
    if any(reboots.values()):
        facts.append(f"Reboots{_listed(reboots)}")
    return facts


def _listed(counts: dict[str, int]) -> str:
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f": {told}" if told else ""
