"""Lists of runs, journals, logs and reasons, on the screen and as JSON."""

from collections.abc import Sequence
from datetime import UTC
from zoneinfo import ZoneInfo

from rich.text import Text

from flows.cli.run_view import mark
from flows.cli.screen import right, safe, safe_lines, say, solid, state, table
from tasks.model import Assessment, RunInfo, RunReport
from tasks.records.history import AVAILABLE, Explanation, History
from tasks.reporting.document import document
from tasks.reporting.flatten import tables
from tasks.reporting.logs import clean_log
from tasks.reporting.text import NOTHING, duration, iso, moment, one_line, plural
from tasks.rules.checks import problem_findings, unjudged_findings
from tasks.rules.restarts import outdated_findings
from tasks.seams.records import JournalEntry
from tasks.states import UpdateState

EVERY = "*"
"""The mask of all updates."""
_UTC = ZoneInfo("UTC")


def run_document(run: RunInfo) -> dict[str, object]:
    """Return a run as JSON data."""
    return {
        "maintenanceRunId": run.id,
        "kind": run.kind,
        "status": run.state.value,
        "scope": run.scope,
        "startedBy": run.started_by,
        "startDateTime": iso(run.started_at),
        "endDateTime": iso(run.ended_at),
        "flowRunId": run.flow_run_id,
        "message": run.message,
    }


def tell_runs(found: Sequence[RunInfo]) -> None:
    """Show runs as a table."""
    if not found:
        say("There is no run yet. Begin with: fleetpatch assess")
        return
    grid = table(solid("run"), solid("kind"), solid("state"), solid("began (UTC)"), right("took"), solid("scope"), "by")
    for run in found:
        took = (run.ended_at - run.started_at).total_seconds() if run.ended_at else None
        grid.add_row(
            run.id,
            run.kind,
            state(run.state),
            f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            duration(took),
            safe(run.scope, limit=40),
            safe(run.started_by, limit=20),
        )
    say(grid)


def show_document(
    past: History, report: RunReport, machine: str | None, *, log: bool, journal: bool
) -> dict[str, object]:
    """Return a run (or one machine of it) as JSON data; with its journal and logs where they are asked for."""
    whole = document(tables(report))
    if machine is not None:
        rows = whole["machines"]
        assert isinstance(rows, list)  # noqa: S101 - for the type checker
        whole["machines"] = [row for row in rows if row["machineName"] == machine]
    if journal:
        whole["journal"] = [_entry_document(each) for each in past.journal(report.run.id, machine)]
    if log:
        logs = past.logs(report.run.id, machine)
        whole["logs"] = dict(logs)
        logs.check()
    return whole


def tell_journal(entries: Sequence[JournalEntry]) -> None:
    """Show a journal."""
    if not entries:
        say("The journal is empty: nothing that changes a machine was begun.")
        return
    grid = table(solid("at (UTC)"), solid("machine"), solid("step"), solid("mark"), solid("act"), "key")
    for entry in entries:
        grid.add_row(
            f"{entry.at.astimezone(UTC):%H:%M:%S}",
            safe(entry.machine),
            entry.step,
            entry.mark,
            safe(entry.act),
            safe(entry.key),
        )
    say(grid)


def tell_log(past: History, run_id: str, machine: str | None) -> None:
    """Show what package managers printed, made harmless, a machine at a time."""
    logs = past.logs(run_id, machine)
    for name, text in logs.items():
        say(Text.assemble("== ", safe(name, "bold")), safe_lines(clean_log(text)))
    if not logs:
        say("No output is recorded: no job was run.")
    logs.check()


def explanation_document(each: Explanation) -> dict[str, object]:
    """Return a reason as JSON data."""
    return {
        "machineName": each.machine,
        "patchName": each.update.name,
        "version": each.update.available,
        "versionBefore": each.update.installed,
        "classifications": [each.update.classification.value],
        "installationState": each.state.value,
        "reason": each.reason,
        "dateTime": iso(each.at),
        "maintenanceRunId": each.run_id or None,
        "source": "assessment" if each.assessed else "run",
    }


def why_document(machine: str, found: Sequence[Explanation], latest: Assessment | None) -> dict[str, object]:
    """Return reasons, and how the machine stood when it was last looked at, as JSON data."""
    packages, error = (latest.packages, latest.error) if latest else (None, None)
    return {
        "machine": machine,
        "assessedDateTime": iso(latest.at) if latest else None,
        "assessmentError": error.message if error else None,
        "packageProblems": list(packages.problems) if packages else None,
        "servicesToRestart": list(packages.services_to_restart) if packages else None,
        "explanations": [explanation_document(each) for each in found],
    }


def _tell_standing(latest: Assessment, *, older: bool) -> None:
    """Say why a machine could not be assessed, or what is wrong with its packages and services."""
    packages, error = latest.packages, latest.error
    when = moment(latest.at, _UTC)
    if packages is None:
        why = error.message if error else "no reason was recorded"
        say(Text.assemble(safe(latest.machine, "bold"), f" could not be assessed on {when} UTC: ", safe(why, "red")))
        if error and error.hint:
            say(Text.assemble("  ", safe(error.hint, "dim")))
        rest = "What is known is older." if older else "What is pending there is not known."
        say(f"  {rest} Once that is mended: fleetpatch assess name={latest.machine}", "")
        return
    broken = problem_findings(packages, repair_allowed=False)
    for finding in (*broken, *unjudged_findings(packages), *outdated_findings(packages)):
        say(Text.assemble(mark(finding.level), " ", safe(latest.machine, "bold"), ": ", safe(finding.message)))
        say(Text.assemble("  ", safe(f"{finding.remedy} Assessed, {when} UTC.", "dim")), "")


def tell_why(
    machine: str, mask: str, found: Sequence[Explanation], latest: Assessment | None = None, *, runs: int = 5
) -> None:
    """Show how the machine stands, and reasons: of named updates all, newest first; else each update's newest one."""
    if latest is not None:
        _tell_standing(latest, older=bool(found))
    if not found and latest is not None and latest.packages is None:
        return
    if not found:
        what = "No update is pending" if mask == EVERY else f"No pending update matches {mask!r}"
        say(safe(f"{what} on {machine}, and none is recorded in its latest {plural(runs, 'run')}."))
        return
    by_update: dict[str, list[Explanation]] = {}
    for each in found:
        by_update.setdefault(each.update.name, []).append(each)
    for name, every in by_update.items():
        say(Text.assemble(safe(name, "bold"), " on ", safe(machine)))
        for each in [telling(every)] if mask == EVERY else every:
            where = "assessed" if each.assessed else f"run {each.run_id}"
            say(Text.assemble("  ", state(each.state), ": ", safe(each.reason)))
            say(Text.assemble("    ", safe(f"{_versions(each)}; {where}, {moment(each.at, _UTC)} UTC", "dim")))
    if mask == EVERY and len(found) > len(by_update):
        say("", Text(f"Earlier reasons of an update: fleetpatch why {one_line(machine)} UPDATE", style="dim"))


def _versions(each: Explanation) -> str:
    """Return "old → new"; what was repaired has stayed the version that it was."""
    old, new = each.update.installed or NOTHING, each.update.available
    return new if old == new else f"{old} → {new}"


def telling(every: Sequence[Explanation]) -> Explanation:
    """Return the newest reason of one update: why a run left it is told before that it is available. Pure.

    Args:
        every: of the same update; what was assessed first, then what runs did, newest first.
    """
    first, *rest = every
    if first.reason != AVAILABLE or not rest:
        return first
    run = rest[0]
    is_of_it = run.state is not UpdateState.INSTALLED and run.update.available == first.update.available
    return run if is_of_it else first


def _entry_document(entry: JournalEntry) -> dict[str, object]:
    return {
        "machineName": entry.machine,
        "step": entry.step.value,
        "mark": entry.mark.value,
        "act": entry.act,
        "key": entry.key,
        "dateTime": iso(entry.at),
        "detail": entry.detail,
    }
