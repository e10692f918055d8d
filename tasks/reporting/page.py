"""What stands on the page: which machines, how much of each, and what is left out because there is no room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tasks.model import RunReport
from tasks.reporting import logs as log_views
from tasks.reporting.columns import Cell, Column, cells, columns, update_columns
from tasks.reporting.flatten import Subject, subjects
from tasks.reporting.groups import Trouble, UpdateGroup, WhyNot, by_machine, by_update, troubles, why_not, worst_first
from tasks.reporting.logs import LogView
from tasks.reporting.rows import HookRow, MachineRow, RunRow, StepRow, Tables, TransactionRow, UpdateRow, WaveRow
from tasks.reporting.text import duration, moment, zone_or_utc
from tasks.reporting.tiles import Tile, tiles
from tasks.reporting.timeline import Picture, picture

KINDS: Final = {"patch": "Patch run", "stage": "Download", "plan": "Dry run", "assess": "Assessment"}


@dataclass(frozen=True, slots=True)
class Detail:
    """How much the page tells.

    Attributes:
        rows: machines that have a row.
        bodies: of those, machines whose row opens.
        updates: rows of updates in one machine's body.
        groups: updates in the list by update, and reasons.
        members: machines named in one group.
        bars: rows of the time line.
        cell: characters of one text.
        log: bytes for all logs together.
    """

    rows: int
    bodies: int
    updates: int
    groups: int
    members: int
    bars: int
    cell: int
    log: int


LADDER: Final = (
    Detail(rows=400, bodies=400, updates=100, groups=300, members=100, bars=250, cell=600, log=250_000),
    Detail(rows=600, bodies=150, updates=40, groups=150, members=40, bars=220, cell=300, log=150_000),
    Detail(rows=600, bodies=70, updates=20, groups=100, members=20, bars=220, cell=300, log=100_000),
    Detail(rows=1000, bodies=40, updates=15, groups=70, members=10, bars=220, cell=200, log=50_000),
    Detail(rows=400, bodies=30, updates=10, groups=50, members=10, bars=120, cell=120, log=40_000),
    Detail(rows=100, bodies=10, updates=5, groups=20, members=5, bars=60, cell=60, log=10_000),
    Detail(rows=30, bodies=3, updates=5, groups=5, members=5, bars=30, cell=40, log=4_000),
)
"""From all there is to the least; the first that fits on the page is taken."""


@dataclass(frozen=True, slots=True)
class MachineView:
    """One machine on the page. Without a body its row doesn't open."""

    row: MachineRow
    cells: tuple[Cell, ...]
    about: Subject
    has_body: bool
    steps: tuple[StepRow, ...] = ()
    transactions: tuple[TransactionRow, ...] = ()
    updates: tuple[UpdateRow, ...] = ()
    updates_left_out: int = 0
    log: LogView | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """All that the templates need."""

    kind: str
    run: RunRow
    zone: ZoneInfo
    now: datetime
    facts: tuple[tuple[str, str, str], ...]
    tiles: tuple[Tile, ...]
    troubles: list[Trouble]
    picture: Picture | None
    waves: tuple[WaveRow, ...]
    hooks: tuple[HookRow, ...]
    hooks_left_out: int
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    machines: tuple[MachineView, ...]
    machines_left_out: int
    states: dict[str, int]
    update_columns: tuple[Column, ...]
    updates: list[UpdateGroup]
    why_not: list[WhyNot]
    detail: Detail


@dataclass(frozen=True, slots=True)
class Source:
    """What a page is made of: laid out once, however often the page has to be made shorter."""

    report: RunReport
    laid_out: Tables
    logs: Mapping[str, str]
    now: datetime
    updates: list[UpdateGroup]
    why_not: list[WhyNot]
    troubles: list[Trouble]
    by_machine: dict[str, list[UpdateRow]]

    @classmethod
    def of(cls, report: RunReport, laid_out: Tables, logs: Mapping[str, str], now: datetime | None) -> "Source":
        """Lay out what doesn't depend on how much room there is."""
        return cls(
            report=report,
            laid_out=laid_out,
            logs=logs,
            now=now or latest(report),
            updates=by_update(laid_out.updates),
            why_not=why_not(laid_out.updates),
            troubles=troubles(laid_out.machines, report.run.kind),
            by_machine=by_machine(laid_out),
        )


def latest(report: RunReport) -> datetime:
    """Return the last moment that the report speaks of: how old its news is."""
    moments = [report.run.started_at]
    if report.run.ended_at:
        moments.append(report.run.ended_at)
    for outcome in report.outcomes:
        moments += [step.ended_at for step in outcome.steps]
        if outcome.ended_at:
            moments.append(outcome.ended_at)
    return max(moments)


def page(source: Source, detail: Detail) -> Page:
    """Put the page together, with that much detail."""
    run = source.laid_out.runs[0]
    zone = zone_or_utc(run.window_zone or "UTC")
    states: dict[str, int] = {}
    for row in worst_first(source.laid_out.machines):
        states[row.state] = states.get(row.state, 0) + 1
    return Page(
        kind=KINDS.get(run.kind, run.kind),
        run=run,
        zone=zone,
        now=source.now,
        facts=_facts(run, zone),
        tiles=tiles(source.report, source.laid_out),
        troubles=source.troubles,
        picture=picture(source.report, zone, now=source.now, limit=detail.bars),
        waves=source.laid_out.waves,
        hooks=_hooks(source.laid_out.hooks)[: detail.groups],
        hooks_left_out=max(0, len(source.laid_out.hooks) - detail.groups),
        notes=source.report.notes[: detail.groups],
        columns=columns(run.kind),
        machines=_machines(source, detail),
        machines_left_out=max(0, len(source.laid_out.machines) - detail.rows),
        states=states,
        update_columns=update_columns(run.kind),
        updates=source.updates,
        why_not=source.why_not,
        detail=detail,
    )


def _hooks(rows: Sequence[HookRow]) -> tuple[HookRow, ...]:
    """Return hooks: those that failed first, else in the order in which they ran."""
    return tuple(sorted(rows, key=lambda row: row.succeeded))


def _facts(run: RunRow, zone: ZoneInfo) -> tuple[tuple[str, str, str], ...]:
    """Return (label, text, smaller text) for the head of the page."""
    utc = ZoneInfo("UTC")
    facts: list[tuple[str, str, str]] = []
    if run.window_start and run.window_end:
        facts.append(("Window", _stretch(run.window_start, run.window_end, zone), str(zone)))
        if str(zone) != "UTC":
            facts.append(("Window in UTC", _stretch(run.window_start, run.window_end, utc), ""))
    facts.append(("Started", moment(run.started_at, zone), f"by {run.started_by}" if run.started_by else ""))
    ended = moment(run.ended_at, zone) if run.ended_at else "not yet"
    facts.append(("Ended", ended, f"after {duration(run.seconds)}" if run.ended_at else ""))
    facts.append(("Run", run.run_id, ""))
    if run.flow_run_id:
        facts.append(("Flow run", run.flow_run_id, ""))
    return tuple(facts)


def _stretch(start: datetime, end: datetime, zone: ZoneInfo) -> str:
    first, last = start.astimezone(zone), end.astimezone(zone)
    until = (
        f"{last:%H:%M}"
        if last - first < timedelta(days=1) and first.date() == last.date()
        else f"{last:%a %d %b %H:%M}"
    )
    return f"{first:%a %d %b %Y %H:%M} \N{EN DASH} {until}"


def _machines(source: Source, detail: Detail) -> tuple[MachineView, ...]:
    laid_out, kind = source.laid_out, source.report.run.kind
    shown = worst_first(laid_out.machines)[: detail.rows]
    opening = [row.machine for row in shown[: detail.bodies]]
    about = {subject.machine: subject for subject in subjects(source.report)}
    ends = log_views.views(source.logs, opening, detail.log)
    wanted = set(opening)
    steps: dict[str, list[StepRow]] = {name: [] for name in opening}
    for step in laid_out.timeline:
        if step.machine in wanted:
            steps[step.machine].append(step)
    transactions: dict[str, list[TransactionRow]] = {name: [] for name in opening}
    for transaction in laid_out.transactions:
        if transaction.machine in wanted:
            transactions[transaction.machine].append(transaction)
    return tuple(
        MachineView(
            row=row,
            cells=cells(row, kind),
            about=about[row.machine],
            has_body=row.machine in wanted,
            steps=tuple(steps.get(row.machine, ())),
            transactions=tuple(transactions.get(row.machine, ())),
            updates=tuple(source.by_machine[row.machine][: detail.updates]),
            updates_left_out=max(0, len(source.by_machine[row.machine]) - detail.updates),
            log=ends.get(row.machine),
        )
        for row in shown
    )
