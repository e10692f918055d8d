"""Builds the tiles at the top of the page: the most important figures."""

from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.domain.states import PRESENT_UPDATE_STATES, URGENT_CLASSIFICATIONS, Classification, Compliance
from tasks.reports.data.rows import RunReportRow, Tables
from tasks.reports.formatting import NO_FIGURE, format_count, format_known_duration, format_minutes


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that is seen first."""

    title: str
    value: str
    note: str = ""
    level: str = ""  # "good", "warn", "bad" or ""
    shares: tuple[tuple[str, str, int], ...] = ()  # the bar below it: CSS class, word and number of each of its parts


def build_tiles(report: RunReport, tables: Tables) -> tuple[Tile, ...]:
    """Return the tiles for the run's kind."""
    run = tables.runs[0]
    if run.kind == "plan":
        return (
            _build_machines_tile(run),
            _build_chosen_tile(run, tables),
            _build_urgent_chosen_tile(tables),
            _build_expected_reboots_tile(tables),
            _build_window_fit_tile(run, tables),
        )
    if run.kind == "assess":
        return (
            _build_machines_tile(run),
            _build_compliance_tile(tables),
            _build_urgent_tile(run, tables),
            Tile(
                "Reboots asked for",
                f"{run.reboots_required}",
                note="by machines that were patched before",
                level="warn" if run.reboots_required else "",
            ),
            _build_duration_tile(run),
        )
    return (
        _build_machines_tile(run),
        _build_updates_tile(run),
        _build_urgent_tile(run, tables),
        _build_reboots_tile(report, run),
        _build_window_tile(run, tables),
    )


def _build_machines_tile(run: RunReportRow) -> Tile:
    shares = (
        ("good", "succeeded", run.machines_succeeded),
        ("warn", "with warnings", run.machines_warnings),
        ("bad", "failed", run.machines_failed),
        ("busy", "in progress", run.machines_in_progress),
        ("idle", "planned" if run.kind == "plan" else "not started", run.machines_not_started),
        ("idle", "unknown", run.machines_unknown),
    )
    return Tile("Machines", f"{run.machines}", shares=shares)


def _build_updates_tile(run: RunReportRow) -> Tile:
    shares = (
        ("good", "installed", run.installed),
        ("good", "repaired", run.repaired),
        ("bad", "failed", run.failed),
        ("bad", "setup failed", run.setup_failed),
        ("warn", "blocked", run.blocked),
        ("warn", "not attempted", run.not_attempted),
        ("busy", "pending", run.pending),
        ("idle", "excluded", run.excluded),
        ("none", "not selected", run.not_selected),
    )
    return Tile(
        "Updates installed", f"{run.installed}", note=f"of {run.updates - run.repaired} pending before", shares=shares
    )


def _build_urgent_tile(run: RunReportRow, tables: Tables) -> Tile:
    holding = sum(row.urgent_pending > 0 for row in tables.machines)
    unknown = sum(row.compliance == Compliance.NOT_ASSESSED for row in tables.machines)
    vague = sum(
        row.classification == Classification.UNCLASSIFIED and row.state not in PRESENT_UPDATE_STATES
        for row in tables.updates
    )
    notes = [f"on {format_count(holding, 'machine')}"] if holding else []
    notes += [f"{format_count(unknown, 'machine')} not assessed"] if unknown else []
    notes += [f"{format_count(vague, 'update')} unclassified"] if vague else []
    level = "bad" if run.urgent_pending else "warn" if unknown or vague else "good"
    return Tile(
        "Critical + security pending",
        f"{run.urgent_pending}",
        note=", ".join(notes) or "nothing urgent is left",
        level=level if run.machines else "",
    )


def _build_reboots_tile(report: RunReport, run: RunReportRow) -> Tile:
    times = sum(o.reboot_result.count for o in report.outcomes if o.reboot_result is not None)
    shares = (
        ("good", "done", run.reboots_completed),
        ("bad", "failed", run.reboots_failed),
        ("warn", "still required", run.reboots_required),
    )
    note = f"{times} reboots in all" if times > run.reboots_completed + run.reboots_failed else ""
    return Tile("Machines rebooted", f"{run.reboots_completed}", note=note, shares=shares)


def _build_window_tile(run: RunReportRow, tables: Tables) -> Tile:
    over = [row.window_exceeded_seconds for row in tables.machines if row.window_exceeded]
    if over:
        note = f"on {format_count(len(over), 'machine')}, at most"
        return Tile("Window overrun", format_known_duration(max(over)), note=note, level="bad")
    if run.window_end is None or run.ended_at is None:
        return _build_duration_tile(run)
    left = (run.window_end - run.ended_at).total_seconds()
    if left < 0:
        return Tile(
            "Window overrun", format_known_duration(-left), note="by the run; no machine was at work", level="warn"
        )
    return Tile(
        "Window left",
        format_known_duration(left),
        note=f"the run lasted {format_known_duration(run.seconds)}",
        level="good",
    )


def _build_duration_tile(run: RunReportRow) -> Tile:
    if run.seconds is None:
        return Tile("Time", NO_FIGURE, note="the run has not ended")
    return Tile("Time", format_known_duration(run.seconds), note="from start to end")


def _build_chosen_tile(run: RunReportRow, tables: Tables) -> Tile:
    chosen = sum(row.planned for row in tables.updates)
    shares = (
        ("busy", "chosen", chosen),
        ("warn", "no time left", run.not_attempted),
        ("warn", "blocked", run.blocked),
        ("idle", "excluded", run.excluded),
        ("none", "not selected", run.not_selected),
    )
    return Tile("Updates chosen", f"{chosen}", note=f"of {run.updates} pending", shares=shares)


def _build_urgent_chosen_tile(tables: Tables) -> Tile:
    urgent = {classification.value for classification in URGENT_CLASSIFICATIONS}
    planned_count = sum(row.planned and row.classification in urgent for row in tables.updates)
    left = tables.runs[0].urgent_pending - planned_count
    note = f"{left} more would stay pending" if left > 0 else "none would stay pending"
    return Tile(
        "Critical + security chosen",
        f"{planned_count}",
        note=note,
        level="warn" if left > 0 else "good" if planned_count else "",
    )


def _build_expected_reboots_tile(tables: Tables) -> Tile:
    answers = [row.reboot_expected for row in tables.machines]
    sure, perhaps = answers.count("yes"), answers.count("unknown")
    shares = (("busy", "yes", sure), ("idle", "possible", perhaps), ("none", "no", answers.count("no")))
    return Tile("Reboots expected", f"{sure} to {sure + perhaps}" if perhaps else f"{sure}", shares=shares)


def _build_window_fit_tile(run: RunReportRow, tables: Tables) -> Tile:
    needed = sum(wave.predicted_seconds or 0.0 for wave in tables.waves)
    if not tables.waves:
        needed = max((row.predicted_seconds or 0.0 for row in tables.machines), default=0.0)
    if not needed:
        return Tile("Predicted time", NO_FIGURE, note="nothing is planned")
    if run.window_start is None or run.window_end is None:
        return Tile("Predicted time", format_minutes(needed), note="wave after wave")
    room = (run.window_end - run.window_start).total_seconds()
    note = f"of {format_minutes(room)} in the window, wave after wave"
    return Tile("Predicted time", format_minutes(needed), note=note, level="good" if needed <= room else "bad")


def _build_compliance_tile(tables: Tables) -> Tile:
    states = [row.compliance for row in tables.machines]
    shares = (
        ("good", "compliant", states.count(Compliance.COMPLIANT)),
        ("bad", "not compliant", states.count(Compliance.NON_COMPLIANT)),
        ("idle", "not assessed", states.count(Compliance.NOT_ASSESSED)),
    )
    return Tile("Compliant machines", f"{states.count(Compliance.COMPLIANT)}", shares=shares)
