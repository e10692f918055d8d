"""Builds the content of the page: which machines it shows, how much of each, and how much is left out."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.reports.data.figure_cells import (
    Cell,
    FigureColumn,
    build_machine_cells,
    select_machine_columns,
    select_update_columns,
)
from tasks.reports.data.groups import (
    ErrorGroup,
    ReasonGroup,
    UpdateGroup,
    group_by_error,
    group_by_machine,
    group_by_reason,
    group_by_update,
    group_rows,
    sort_worst_first,
)
from tasks.reports.data.machine_reports import MachineReport, build_machine_reports
from tasks.reports.data.rows import (
    HookRow,
    MachineReportRow,
    RunReportRow,
    StepRow,
    Tables,
    TransactionRow,
    UpdateReportRow,
)
from tasks.reports.data.tables import build_tables
from tasks.reports.formatting import RUN_KIND_TITLES, format_known_duration, format_moment, load_zone_or_utc
from tasks.reports.html.phases import PhasesPicture, build_phases_picture
from tasks.reports.html.tiles import Tile, build_tiles
from tasks.reports.html.timeline import Timeline, build_timelines
from tasks.reports.log_files import LogExcerpt, build_log_excerpts
from tasks.rules.automatic.progress import RolloutProgress


@dataclass(frozen=True, slots=True)
class DetailLimits:
    """Maximum amounts on the page."""

    machine_rows: int  # machines with a row
    expandable_machines: int  # machines whose row expands; part of ``machine_rows``
    updates_per_machine: int  # rows of updates in one machine's details
    groups: int  # entries in each of these lists: updates, reasons, hooks, notes
    machines_per_group: int  # names of machines in one group
    timeline_rows: int  # rows of the timeline
    text_characters: int  # characters of one text
    log_bytes: int  # bytes of all logs together


DETAIL_LEVELS: Final = (
    DetailLimits(400, 400, 100, 300, 100, 250, 600, 250_000),
    DetailLimits(600, 150, 40, 150, 40, 220, 300, 150_000),
    DetailLimits(600, 70, 20, 100, 20, 220, 300, 100_000),
    DetailLimits(1000, 40, 15, 70, 10, 220, 200, 50_000),
    DetailLimits(400, 30, 10, 50, 10, 120, 120, 40_000),
    DetailLimits(100, 10, 5, 20, 5, 60, 60, 10_000),
    DetailLimits(30, 3, 5, 5, 5, 30, 40, 4_000),
)
"""Levels from most to least detail. The renderer uses the first level with which the page is small enough."""


@dataclass(frozen=True, slots=True)
class MachineSection:
    """One machine on the page. Only the row of an expandable machine shows details."""

    row: MachineReportRow
    cells: tuple[Cell, ...]
    machine_report: MachineReport
    is_expandable: bool
    steps: tuple[StepRow, ...] = ()
    transactions: tuple[TransactionRow, ...] = ()
    updates: tuple[UpdateReportRow, ...] = ()
    updates_left_out: int = 0
    log_excerpt: LogExcerpt | None = None


@dataclass(frozen=True, slots=True)
class ReportPage:
    """All values that the templates need."""

    title: str
    run: RunReportRow
    zone: ZoneInfo
    as_of: datetime
    facts: tuple[tuple[str, str, str], ...]
    tiles: tuple[Tile, ...]
    error_groups: list[ErrorGroup]
    phases: PhasesPicture | None
    timelines: dict[str, Timeline]
    hooks: tuple[HookRow, ...]
    hooks_left_out: int
    notes: tuple[str, ...]
    columns: tuple[FigureColumn, ...]
    machines: tuple[MachineSection, ...]
    machines_left_out: int
    states: dict[str, int]
    update_columns: tuple[FigureColumn, ...]
    updates: list[UpdateGroup]
    reason_groups: list[ReasonGroup]


@dataclass(frozen=True, slots=True)
class PageSource:
    """The data of a page at all levels of detail. It is built once; a page may be rendered at several levels."""

    report: RunReport
    tables: Tables
    logs: Mapping[str, str]
    now: datetime
    updates: list[UpdateGroup]
    reason_groups: list[ReasonGroup]
    error_groups: list[ErrorGroup]
    updates_by_machine: dict[str, list[UpdateReportRow]]
    rollout: RolloutProgress | None = None

    @classmethod
    def build(
        cls,
        report: RunReport,
        tables: Tables,
        logs: Mapping[str, str],
        now: datetime | None,
        rollout: RolloutProgress | None = None,
    ) -> "PageSource":
        """Build the data that does not depend on the level of detail."""
        return cls(
            report=report,
            tables=tables,
            logs=logs,
            now=now or find_latest_report_time(report),
            updates=group_by_update(tables.updates),
            reason_groups=group_by_reason(tables.updates),
            error_groups=group_by_error(tables.machines, report.run.kind),
            updates_by_machine=group_by_machine(tables),
            rollout=rollout,
        )


def find_latest_report_time(report: RunReport) -> datetime:
    """Return the latest time in the report."""
    ends = [report.run.ended_at, *(outcome.ended_at for outcome in report.outcomes)]
    ends += [step.ended_at for outcome in report.outcomes for step in outcome.steps]
    return max([report.run.started_at, *filter(None, ends)])


def build_page(source: PageSource, detail: DetailLimits) -> ReportPage:
    """Return the page at a level of detail."""
    run = source.tables.runs[0]
    zone = load_zone_or_utc(run.window_zone or "UTC")
    states: dict[str, int] = {}
    for row in sort_worst_first(source.tables.machines):
        states[row.state] = states.get(row.state, 0) + 1
    return ReportPage(
        title=RUN_KIND_TITLES.get(run.kind, run.kind),
        run=run,
        zone=zone,
        as_of=source.now,
        facts=_build_facts(run, zone),
        tiles=build_tiles(source.report, source.tables),
        error_groups=source.error_groups,
        phases=build_phases_picture(source.rollout, zone, limit=min(60, detail.groups)) if source.rollout else None,
        timelines=build_timelines(source.report, zone, now=source.now, limit=detail.timeline_rows),
        hooks=tuple(sorted(source.tables.hooks, key=lambda row: row.succeeded))[: detail.groups],  # failed ones first
        hooks_left_out=max(0, len(source.tables.hooks) - detail.groups),
        notes=source.report.notes[: detail.groups],
        columns=select_machine_columns(run.kind),
        machines=_build_machine_views(source, detail),
        machines_left_out=max(0, len(source.tables.machines) - detail.machine_rows),
        states=states,
        update_columns=select_update_columns(run.kind),
        updates=source.updates,
        reason_groups=source.reason_groups,
    )


def _build_facts(run: RunReportRow, zone: ZoneInfo) -> tuple[tuple[str, str, str], ...]:
    """Return (label, text, secondary text) for the head of the page."""
    utc = ZoneInfo("UTC")
    facts: list[tuple[str, str, str]] = []
    if run.window_start and run.window_end:
        facts.append(("Window", _format_period(run.window_start, run.window_end, zone), str(zone)))
        if str(zone) != "UTC":
            facts.append(("Window in UTC", _format_period(run.window_start, run.window_end, utc), ""))
    facts.append(("Started", format_moment(run.started_at, zone), f"by {run.started_by}" if run.started_by else ""))
    ended = format_moment(run.ended_at, zone) if run.ended_at else "not yet"
    facts.append(("Ended", ended, f"after {format_known_duration(run.seconds)}" if run.ended_at else ""))
    facts.append(("Run", run.run_id, ""))
    if run.flow_run_id:
        facts.append(("Flow run", run.flow_run_id, ""))
    return tuple(facts)


def _format_period(start: datetime, end: datetime, zone: ZoneInfo) -> str:
    first, last = start.astimezone(zone), end.astimezone(zone)
    until = (
        f"{last:%H:%M}"
        if last - first < timedelta(days=1) and first.date() == last.date()
        else f"{last:%a %d %b %H:%M}"
    )
    return f"{first:%a %d %b %Y %H:%M} \N{EN DASH} {until}"


def build_machine_section(report: RunReport, machine: str, detail: DetailLimits) -> MachineSection | None:
    """Return a machine as the report of its run shows it.

    ``report``: the report of this machine alone, with the waves of the whole run.
    ``machine``: its name.

    Returns:
        The machine; None if the report has nothing of it.
    """
    waves = tuple(replace(wave, machines=(machine,)) for wave in report.waves if machine in wave.machines)
    report = replace(report, waves=waves)
    return next(iter(_build_machine_views(PageSource.build(report, build_tables(report), {}, None), detail)), None)


def _build_machine_views(source: PageSource, detail: DetailLimits) -> tuple[MachineSection, ...]:
    tables, kind = source.tables, source.report.run.kind
    shown_rows = sort_worst_first(tables.machines)[: detail.machine_rows]
    expandable = [row.machine for row in shown_rows[: detail.expandable_machines]]
    reports_by_machine = {subject.machine: subject for subject in build_machine_reports(source.report)}
    excerpts = build_log_excerpts(source.logs, expandable, detail.log_bytes)
    expandable_names = set(expandable)
    steps = group_rows(step for step in tables.timeline if step.machine in expandable_names)
    transactions = group_rows(
        transaction for transaction in tables.transactions if transaction.machine in expandable_names
    )
    return tuple(
        MachineSection(
            row=row,
            cells=build_machine_cells(row, kind),
            machine_report=reports_by_machine[row.machine],
            is_expandable=row.machine in expandable_names,
            steps=tuple(steps.get(row.machine, ())),
            transactions=tuple(transactions.get(row.machine, ())),
            updates=tuple(source.updates_by_machine[row.machine][: detail.updates_per_machine]),
            updates_left_out=max(0, len(source.updates_by_machine[row.machine]) - detail.updates_per_machine),
            log_excerpt=excerpts.get(row.machine),
        )
        for row in shown_rows
    )
