"""The compliance document as tiles and tables of text, the same for the page and for the document. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.states import Compliance
from tasks.reports.formatting import NO_FIGURE, NOT_KNOWN, format_count, format_known_duration, format_share
from tasks.reports.html.tiles import Tile
from tasks.rules.compliance.model import UNSCHEDULED, ComplianceDocument, Fix, RunFigure, SlaFigure

MAX_ROWS: Final = 200
"""Rows of a table in the document. CSV and Parquet have all."""
_NOT_ASSESSED: Final = "no machine was assessed"


@dataclass(frozen=True, slots=True)
class Section:
    """A table with its explanation."""

    title: str
    text: str
    headings: Sequence[tuple[str, bool]]  # text of each column, and whether it has numbers
    rows: Sequence[tuple[str, ...]]  # text of each cell
    empty: str  # what stands for a table without rows
    file: str  # the name of the table in CSV and Parquet
    left_out: int = 0  # rows that are only in the files for programs


@dataclass(frozen=True, slots=True)
class DayBar:
    """One day of the picture, in percent of its height. ``y`` counts from above."""

    x: float
    compliant: float
    non_compliant: float
    label: str


def build_tiles(document: ComplianceDocument) -> tuple[Tile, ...]:
    """Return the most important figures."""
    month_end = document.weeks[-1]
    tiles = [
        Tile(
            "Compliant at the end",
            NOT_KNOWN if month_end.share is None else format_share(month_end.share),
            f"{month_end.compliant} of {format_count(month_end.machines, 'machine')}"
            if _is_assessed(document)
            else _NOT_ASSESSED,
            _rate(month_end.share),
        )
    ]
    for target in document.sla:
        decided = target.known - target.not_due
        note = (
            f"{target.in_time} of {decided} within {target.days:g} {'day' if target.days == 1 else 'days'}"
            if decided
            else "none was due"
        )
        share = format_share(target.share)
        if not target.known and not _is_assessed(document):
            share, note = NOT_KNOWN, _NOT_ASSESSED
        tiles.append(Tile(f"{target.kind.capitalize()} fixes in time", share, note, _rate(target.share)))
    tiles += [
        _build_missing_tile(document),
        Tile(
            "Not assessed",
            str(month_end.not_assessed),
            "state not known at the end",
            "warn" if month_end.not_assessed else "good" if month_end.machines else "",
        ),
    ]
    return tuple(tiles)


def _is_assessed(document: ComplianceDocument) -> bool:
    """Return whether the state of any machine at the end is known. If not, zeros say nothing about the machines."""
    return document.weeks[-1].compliant + document.weeks[-1].non_compliant > 0


def _build_missing_tile(document: ComplianceDocument) -> Tile:
    lacking = sum(bool(machine.missing) for machine in document.machines)
    if not lacking and not _is_assessed(document):
        return Tile("Missing at the end", NOT_KNOWN, _NOT_ASSESSED)
    level = "warn" if lacking else "" if document.weeks[-1].not_assessed else "good"
    return Tile("Missing at the end", str(len(document.open_fixes)), f"on {format_count(lacking, 'machine')}", level)


def build_sections(document: ComplianceDocument, limit: int = MAX_ROWS) -> tuple[Section, ...]:
    """Return the tables.

    Args:
        document: the figures.
        limit: the most rows of a table.
    """
    before, after = (_build_sla, _build_weeks), (_build_runs, _build_exceptions, _build_unassessed, _build_days)
    sections = [builder(document) for builder in before]
    sections += [_build_open(document, limit), *(builder(document) for builder in after)]
    return tuple(
        replace(section, rows=section.rows[:limit], left_out=section.left_out + max(0, len(section.rows) - limit))
        for section in sections
    )


def build_day_bars(document: ComplianceDocument) -> tuple[DayBar, ...]:
    """Return the bars of the picture: of the machines that were assessed on a day, which were compliant."""
    highest = max((day.assessed for day in document.days), default=0) or 1
    return tuple(
        DayBar(
            x=number * 100 / 31,
            compliant=(figure.compliant or 0) * 100 / highest,
            non_compliant=((figure.non_compliant or 0) + (figure.unclear or 0)) * 100 / highest,
            label=f"{figure.day:%d %b}: {figure.compliant} of {figure.assessed} compliant",
        )
        for number, figure in enumerate(document.days)
        if figure.assessed
    )


def describe_method(document: ComplianceDocument) -> tuple[str, ...]:
    """Return how the figures are computed, as sentences."""
    days = ", ".join(f"{target.kind} {target.days:g} days" for target in document.sla)
    return (
        "Months, weeks and days are in UTC. Figures come from fleetpatch's records: assessments of machines, and "
        "results of runs.",
        "A machine is compliant if its package manager reports no pending critical or security update and no broken "
        "package. Security updates include those of extended support (ESM). A machine without an assessment in the "
        "month counts as not assessed, which is not compliant.",
        "A fix is an update on one machine. It becomes known with its publication, if the publisher states it and "
        "automatic patching has stored it, or else when an assessment of any machine shows it first. A newer version "
        "of a pending update does not begin a new time.",
        "A machine has a fix when a run has installed it, or at the first assessment that no longer shows it. The real "
        "time is then earlier, by up to the interval of assessments.",
        f"In time means: within {days} ({document.sla_source}). Installations count until {_day(document.until)}. A "
        "share is that of the fixes that are decided: installed, or overdue. Median and 95th percentile are those of "
        "installed fixes, by the nearest rank.",
        "The scope is that of the present inventory: environments, tags and locations of former months are not stored.",
        "Fixes that no assessment has ever shown as pending are not counted: installed between two assessments, or on "
        "machines that nobody assessed.",
    )


def _rate(share: float | None) -> str:
    if share is None:
        return ""
    return "good" if share >= 0.95 else "warn" if share >= 0.8 else "bad"


def _build_sla(document: ComplianceDocument) -> Section:
    names = ("Kind", "Days", "Fixes", "Machines", "Machine-fixes", "In time", "Late", "Overdue", "Not due yet")
    headings = [(name, name != "Kind") for name in (*names, "In time of decided", "Median days", "95 % within days")]
    return Section(
        "Fixes that became known in the month",
        "How many machines had them within the days of the policy. Each machine that lacked a fix counts. A dash: not "
        "known, or there is none.",
        headings,
        [_show_sla(target, is_known=target.known > 0 or _is_assessed(document)) for target in document.sla],
        "",
        "sla",
    )


def _show_sla(figure: SlaFigure, *, is_known: bool) -> tuple[str, ...]:
    if not is_known:
        return (figure.kind, f"{figure.days:g}", *(NO_FIGURE,) * 7, NOT_KNOWN, NO_FIGURE, NO_FIGURE)
    counts = (figure.fixes, figure.machines, figure.known, figure.in_time, figure.late, figure.overdue, figure.not_due)
    times = (_days(figure.median_days), _days(figure.p95_days))
    return (figure.kind, f"{figure.days:g}", *map(str, counts), format_share(figure.share), *times)


def _build_weeks(document: ComplianceDocument) -> Section:
    names = ("Machines", "Compliant", "Not compliant", "Not assessed", "Compliant share")
    rows = [
        (
            _day(week.ends_at - timedelta(microseconds=1)),
            *map(str, (week.machines, week.compliant, week.non_compliant, week.not_assessed)),
            NOT_KNOWN if week.share is None else format_share(week.share),
        )
        for week in document.weeks
    ]
    return Section(
        "Compliance by week",
        "Each machine by its last assessment of the month until then. The last row is the end of the month.",
        [("Until", False), *((name, True) for name in names)],
        rows,
        "",
        "weeks",
    )


def _build_open(document: ComplianceDocument, limit: int) -> Section:
    """Return the table with the first rows: a large fleet has more than a hundred thousand, which take seconds."""
    fixes = document.open_fixes
    headings = [("Machine", False), ("Update", False), ("Version", False), ("Kind", False), ("Known since", False)]
    return Section(
        "Missing at the end",
        "Critical and security fixes that machines lacked at the end, the oldest first.",
        [*headings, ("Age in days", True), ("Installed since", False), ("What keeps it", False)],
        [_show_open(fix, document.ends_at) for fix in fixes[:limit]],
        "No assessed machine lacked a critical or security fix." if _is_assessed(document) else "Not known.",
        "fixes",
        max(0, len(fixes) - limit),
    )


def _show_open(fix: Fix, end: datetime) -> tuple[str, ...]:
    at_least = "≥ " if fix.known_at_least else ""
    age = f"{at_least}{(end - fix.known_at) / timedelta(days=1):.1f}"
    since = f"{'before ' if fix.known_at_least else ''}{_day(fix.known_at)}"
    later = _day(fix.ended_at) if fix.ended_at is not None else "no"
    return (fix.machine, fix.name, fix.version, fix.kind, since, age, later, fix.withheld or NO_FIGURE)


def _build_runs(document: ComplianceDocument) -> Section:
    headings = [("Window or start", False), ("Configuration", False), ("Run", False), ("Window", False)]
    headings += [("State", False), ("Machines", True), ("Failed", True), ("Installed", True), ("Reboots", True)]
    states = [run.window for run in document.runs]
    labels = ("kept", "exceeded", "missed", "frozen", "cancelled", *{"unfinished"}.intersection(states))
    counts = {word: states.count(word) for word in labels}
    return Section(
        "Runs and windows",
        f"Windows of schedules: {', '.join(f'{count} {word}' for word, count in counts.items())}. "
        f"Runs outside of schedules: {sum(run in ('', UNSCHEDULED) for run in states)}. Runs with machines of the "
        "scope; windows without a run, and runs that have planned no machine, are those of all configurations, because "
        "no machines are recorded for them. A dash: not known.",
        [*headings, ("Remark", False)],
        [_show_run(run) for run in document.runs],
        "There was no run and no window.",
        "runs",
    )


def _show_run(run: RunFigure) -> tuple[str, ...]:
    window = run.window or "no window"
    if run.exceeded_seconds > 0:
        window += f"{', exceeded' if window == UNSCHEDULED else ''} by {format_known_duration(run.exceeded_seconds)}"
    counts = (run.machines, run.failed, run.installed, run.reboots) if run.run else ()
    figures = tuple(_show_count(count, is_final=run.ended_at is not None) for count in counts) or (NO_FIGURE,) * 4
    start = f"{run.starts_at:%Y-%m-%d %H:%M}"
    return (start, run.configuration or NO_FIGURE, run.run or NO_FIGURE, window, run.state, *figures, run.reason)


def _show_count(count: int, *, is_final: bool) -> str:
    """Return a figure of a run. One that has not ended, or that was killed, has recorded only a part so far."""
    return str(count) if is_final else f"≥ {count}" if count else NO_FIGURE


def _build_exceptions(document: ComplianceDocument) -> Section:
    headings = [("What", False), ("Update or scope", False), ("Machines", True), ("Reason", False), ("Who", False)]
    rows = [
        (
            _EXCEPTION_WORDS.get(exception.what, exception.what),
            exception.subject,
            str(exception.machines) if exception.machines else NO_FIGURE,
            exception.reason,
            exception.who or NO_FIGURE,
            _day(exception.since) if exception.since else NO_FIGURE,
            _day(exception.until) if exception.until else NO_FIGURE,
        )
        for exception in document.exceptions
    ]
    return Section(
        "Exceptions",
        "What keeps fixes from being installed. Updates that are held or blocked on machines: the present state. "
        "Updates held by automatic patching, scopes taken out of it, and packages of maintenance control: those of the "
        "month.",
        [*headings, ("Since", False), ("Until", False)],
        rows,
        "There are none.",
        "exceptions",
    )


_EXCEPTION_WORDS: Final = {
    "held": "held on machines",
    "blocked": "blocked",
    "rollout": "held by automatic patching",
    "paused": "taken out of automatic patching",
    "maintenance": "held by maintenance control",
}


def _build_unassessed(document: ComplianceDocument) -> Section:
    rows = [
        (
            machine.machine,
            machine.environment or NO_FIGURE,
            "yes" if machine.in_inventory else "no",
            _day(machine.last_assessed) if machine.last_assessed else "not in this month",
        )
        for machine in document.machines
        if machine.compliance == Compliance.NOT_ASSESSED
    ]
    return Section(
        "Machines that were not assessed",
        "Whether they are compliant is not known.",
        [(name, False) for name in ("Machine", "Environment", "In the inventory", "Last answer")],
        rows,
        "All machines were assessed.",
        "machines",
    )


def _build_days(document: ComplianceDocument) -> Section:
    names = ("Assessed", "Compliant", "Not compliant", "Not clear", "Critical", "Security", "Reboot required")
    rows = [
        (
            _day(day.day),
            *(
                NO_FIGURE if figure is None else str(figure)
                for figure in (
                    day.assessed or None,
                    day.compliant,
                    day.non_compliant,
                    day.unclear,
                    day.critical,
                    day.security,
                    day.reboot_required,
                )
            ),
        )
        for day in document.days
    ]
    return Section(
        "Days",
        "Machines by their last assessment of the day. A dash: no assessment.",
        [("Day", False), *((name, True) for name in names)],
        rows,
        "",
        "days",
    )


_day: Callable[[datetime], str] = "{:%Y-%m-%d}".format


def _days(days: float | None) -> str:
    return NO_FIGURE if days is None else f"{days:.1f}"
