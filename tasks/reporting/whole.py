"""The whole report as Markdown, for those who can't reach its files: an artifact that Prefect's UI shows to everybody.

It is bounded in size: of a big fleet, machines that need a look come first, and how many are left out is said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.model import Outcome, RunReport
from tasks.reporting.flatten import tables
from tasks.reporting.groups import WhyNot, share, why_not, worst_first
from tasks.reporting.markdown import Cell, escape, machine_rows, summary, update_rows
from tasks.reporting.text import clock_time, duration, plural, zone_or_utc
from tasks.states import FindingLevel, OperationState, UpdateState

MOST_CHARACTERS: Final = 150_000


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much is told.

    Attributes:
        rows: of each table.
        machines: that are told one by one.
        lines: of each part of such a machine.
    """

    rows: int
    machines: int
    lines: int


_LADDER: Final = (
    _Detail(500, 100, 60),
    _Detail(300, 40, 30),
    _Detail(150, 20, 15),
    _Detail(50, 5, 10),
    _Detail(5, 1, 3),
)


def whole(report: RunReport, files: str = "") -> str:
    """Return the report: summary, machines, reasons, updates, and one by one the machines that need a look.

    Args:
        report: the run.
        files: where its files are, in words; "" when it has none.
    """
    text = ""
    for detail in _LADDER:
        text = _told(report, files, detail)
        if len(text) <= MOST_CHARACTERS:
            break
    return text


def _told(report: RunReport, files: str, detail: _Detail) -> str:
    laid_out = tables(report)
    lines = [summary(report)]
    if files:
        lines += [f"Files of this report: {escape(files, 400)}", ""]
    lines += _table("Machines", machine_rows(report, detail.rows), len(laid_out.machines))
    reasons = why_not(laid_out.updates)
    lines += _table("Why not", list(map(_reason, reasons[: detail.rows])), len(reasons))
    different = len({(row.name, row.kb) for row in laid_out.updates})
    lines += _table("Updates", update_rows(report, detail.rows), different)
    outcomes = {outcome.machine: outcome for outcome in report.outcomes}
    worst = [row.machine for row in worst_first(laid_out.machines) if row.state in _TOLD_ALONE]
    named, more = share([name for name in worst if name in outcomes], detail.machines)
    for name in named:
        lines += _machine(report, outcomes[name], detail.lines)
    if more:
        lines += [f"Besides, {plural(more, 'machine')} to look at.", ""]
    return "\n".join(lines)


_TOLD_ALONE: Final = frozenset(
    {OperationState.FAILED, OperationState.UNKNOWN, OperationState.IN_PROGRESS, OperationState.COMPLETED_WITH_WARNINGS}
)


_WANTED: Final = frozenset({UpdateState.FAILED, UpdateState.NOT_ATTEMPTED, UpdateState.PENDING})


def _reason(group: WhyNot) -> dict[str, Cell]:
    named, more = share(list(group.names), 3)
    return {
        "State": group.state,
        "Updates": group.updates,
        "Machines": len(group.machines),
        "Such as": ", ".join(escape(name, 60) for name in named) + (" …" if more else ""),
        "Reason": escape(group.reason) + (" (figures differ)" if group.differs else ""),
    }


def _table(title: str, rows: Sequence[dict[str, Cell]], in_all: int) -> list[str]:
    """Return rows as a table below its title; nothing when there are none. Their texts are escaped already."""
    if not rows:
        return []
    heads = list(rows[0])
    lines = [f"### {title}", "", _row(heads), "|" + "---|" * len(heads), *(_row(row.values()) for row in rows), ""]
    if in_all > len(rows):
        lines += [f"And {in_all - len(rows)} more.", ""]
    return lines


def _row(cells: Iterable[Cell]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _machine(report: RunReport, outcome: Outcome, most: int) -> list[str]:
    zone = zone_or_utc(report.run.window.zone if report.run.window else "UTC")
    told = [f"### {escape(outcome.machine)}: {outcome.state}", "", escape(outcome.reason, 600), ""]
    if outcome.error is not None and outcome.error.hint:
        told.append(f"- hint: {escape(outcome.error.hint)}")
    for step in outcome.steps[:most]:
        took = duration((step.ended_at - step.started_at).total_seconds())
        said = f": {escape(step.message)}" if step.message else ""
        told.append(f"- {clock_time(step.started_at, zone)} {step.step} {step.state}, {took}{said}")
    wanting = [finding for finding in outcome.findings if finding.level is not FindingLevel.GOOD]
    for finding in wanting[:most]:
        told.append(f"- **{finding.level}** {escape(finding.check, 80)}: {escape(finding.message)}")
        if finding.remedy:
            told.append(f"- remedy: {escape(finding.remedy)}")
    left = [result for result in outcome.updates if result.state in _WANTED]
    told += [f"- {escape(each.update.name, 80)} {each.state}: {escape(each.reason)}" for each in left[:most]]
    if len(left) > most:
        told.append(f"- not installed besides: {plural(len(left) - most, 'update')}")
    return [*told, ""]
