"""The figures on top of the page: what a person wants to know before anything else."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.model import RunReport
from tasks.reporting.rows import RunRow, Tables
from tasks.reporting.text import NOTHING, duration, minutes, plural
from tasks.states import SETTLED, URGENT, Classification, Compliance


@dataclass(frozen=True, slots=True)
class Part:
    """One share of a bar: ``x`` and ``width`` in percent."""

    look: str
    label: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure. ``tone`` is "", "good", "warn" or "bad"."""

    label: str
    value: str
    note: str = ""
    tone: str = ""
    parts: tuple[Part, ...] = ()


def tiles(report: RunReport, laid_out: Tables) -> tuple[Tile, ...]:
    """Return the tiles for that kind of run."""
    run = laid_out.runs[0]
    if run.kind == "plan":
        return (
            _machines(run),
            _chosen(laid_out),
            _urgent_chosen(laid_out),
            _expected_reboots(laid_out),
            _fit(laid_out),
        )
    if run.kind == "assess":
        return (_machines(run), _compliance(laid_out), _urgent(laid_out), _reboots_asked(run), _took(run))
    return (_machines(run), _updates(run), _urgent(laid_out), _reboots(report, run), _window(laid_out))


def bar(shares: Sequence[tuple[str, str, int]]) -> tuple[Part, ...]:
    """Return (look, label, count) as shares of a whole; what counts nothing is left out."""
    whole = sum(count for _, _, count in shares)
    parts: list[Part] = []
    at = 0.0
    for look, label, count in shares:
        if count:
            width = 100 * count / whole
            parts.append(Part(look, label, count, round(at, 2), round(width, 2)))
            at += width
    return tuple(parts)


def _machines(run: RunRow) -> Tile:
    shares = (
        ("good", "succeeded", run.machines_succeeded),
        ("warn", "with warnings", run.machines_warnings),
        ("bad", "failed", run.machines_failed),
        ("busy", "in progress", run.machines_in_progress),
        ("idle", "planned" if run.kind == "plan" else "not started", run.machines_not_started),
        ("idle", "unknown", run.machines_unknown),
    )
    return Tile("Machines", f"{run.machines}", parts=bar(shares))


def _updates(run: RunRow) -> Tile:
    shares = (
        ("good", "installed", run.installed),
        ("good", "repaired", run.repaired),
        ("bad", "failed", run.failed),
        ("warn", "not attempted", run.not_attempted),
        ("busy", "pending", run.pending),
        ("idle", "excluded", run.excluded),
        ("none", "not selected", run.not_selected),
    )
    return Tile(
        "Updates installed",
        f"{run.installed}",
        note=f"of {run.updates - run.repaired} pending before",
        parts=bar(shares),
    )


def _urgent(laid_out: Tables) -> Tile:
    run = laid_out.runs[0]
    holding = sum(row.urgent_pending > 0 for row in laid_out.machines)
    unknown = sum(row.compliance == Compliance.NOT_ASSESSED and not row.updates for row in laid_out.machines)
    vague = sum(
        row.classification == Classification.UNCLASSIFIED and row.state not in SETTLED for row in laid_out.updates
    )
    notes = [f"on {plural(holding, 'machine')}"] if holding else []
    notes += [f"{plural(unknown, 'machine')} not assessed"] if unknown else []
    notes += [f"{plural(vague, 'update')} unclassified"] if vague else []
    tone = "bad" if run.urgent_pending else "warn" if unknown or vague else "good"
    return Tile(
        "Critical + security pending",
        f"{run.urgent_pending}",
        note=", ".join(notes) or "nothing urgent is left",
        tone=tone if run.machines else "",
    )


def _reboots(report: RunReport, run: RunRow) -> Tile:
    times = sum(o.reboot_result.count for o in report.outcomes if o.reboot_result is not None)
    shares = (
        ("good", "done", run.reboots_completed),
        ("bad", "failed", run.reboots_failed),
        ("warn", "still required", run.reboots_required),
    )
    note = f"{times} reboots in all" if times > run.reboots_completed + run.reboots_failed else ""
    return Tile("Machines rebooted", f"{run.reboots_completed}", note=note, parts=bar(shares))


def _window(laid_out: Tables) -> Tile:
    run = laid_out.runs[0]
    over = [row.window_exceeded_seconds for row in laid_out.machines if row.window_exceeded]
    if over:
        note = f"on {plural(len(over), 'machine')}, at most"
        return Tile("Window overrun", duration(max(over)), note=note, tone="bad")
    if run.window_end is None or run.ended_at is None:
        return _took(run)
    left = (run.window_end - run.ended_at).total_seconds()
    if left < 0:
        return Tile("Window overrun", duration(-left), note="by the run; no machine was at work", tone="warn")
    return Tile("Window left", duration(left), note=f"the run took {duration(run.seconds)}", tone="good")


def _took(run: RunRow) -> Tile:
    if run.seconds is None:
        return Tile("Time", NOTHING, note="the run has not ended")
    return Tile("Time", duration(run.seconds), note="from start to end")


def _chosen(laid_out: Tables) -> Tile:
    run = laid_out.runs[0]
    chosen = sum(row.planned for row in laid_out.updates)
    shares = (
        ("busy", "chosen", chosen),
        ("warn", "no time left", run.not_attempted),
        ("idle", "excluded", run.excluded),
        ("none", "not selected", run.not_selected),
    )
    return Tile("Updates chosen", f"{chosen}", note=f"of {run.updates} pending", parts=bar(shares))


def _urgent_chosen(laid_out: Tables) -> Tile:
    urgent = {classification.value for classification in URGENT}
    wanted = sum(row.planned and row.classification in urgent for row in laid_out.updates)
    left = laid_out.runs[0].urgent_pending - wanted
    note = f"{left} more would stay pending" if left > 0 else "none would stay pending"
    return Tile(
        "Critical + security chosen", f"{wanted}", note=note, tone="warn" if left > 0 else "good" if wanted else ""
    )


def _expected_reboots(laid_out: Tables) -> Tile:
    answers = [row.reboot_expected for row in laid_out.machines]
    sure, perhaps = answers.count("yes"), answers.count("unknown")
    shares = (
        ("busy", "yes", sure),
        ("idle", "perhaps", perhaps),
        ("none", "no", answers.count("no")),
    )
    return Tile("Reboots expected", f"{sure} to {sure + perhaps}" if perhaps else f"{sure}", parts=bar(shares))


def _fit(laid_out: Tables) -> Tile:
    run = laid_out.runs[0]
    needed = sum(wave.predicted_seconds or 0.0 for wave in laid_out.waves)
    if not laid_out.waves:
        needed = max((row.predicted_seconds or 0.0 for row in laid_out.machines), default=0.0)
    if not needed:
        return Tile("Predicted time", NOTHING, note="nothing is planned")
    if run.window_start is None or run.window_end is None:
        return Tile("Predicted time", minutes(needed), note="wave after wave")
    room = (run.window_end - run.window_start).total_seconds()
    note = f"of {minutes(room)} in the window, wave after wave"
    return Tile("Predicted time", minutes(needed), note=note, tone="good" if needed <= room else "bad")


def _compliance(laid_out: Tables) -> Tile:
    states = [row.compliance for row in laid_out.machines]
    shares = (
        ("good", "compliant", states.count(Compliance.COMPLIANT)),
        ("bad", "not compliant", states.count(Compliance.NON_COMPLIANT)),
        ("idle", "not assessed", states.count(Compliance.NOT_ASSESSED)),
    )
    return Tile("Compliant machines", f"{states.count(Compliance.COMPLIANT)}", parts=bar(shares))


def _reboots_asked(run: RunRow) -> Tile:
    return Tile(
        "Reboots asked for",
        f"{run.reboots_required}",
        note="by machines that were patched before",
        tone="warn" if run.reboots_required else "",
    )
