"""Prints why a machine is patched automatically when it is, or returns it as JSON data."""

from datetime import datetime

from rich.text import Text

from deployments.preview.automatic_status import AutomaticExplanation
from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from fleetpatch.cli.views.automatic import format_day_and_time, format_window
from fleetpatch.cli.views.automatic_json import build_run_json, build_waiting_json
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.rules.calendar.local_time import format_duration

_MAX_UPDATES = 40


def print_explanation(explanation: AutomaticExplanation) -> None:
    """Print it."""
    machine, now = explanation.machine, explanation.now
    places = [
        f"location {machine.location or NO_FIGURE}",
        *([f"availability zone {machine.availability_zone}"] if machine.availability_zone else []),
        f"clock of {machine.zone}",
        *([f"sets {', '.join(machine.sets)}"] if machine.sets else []),
    ]
    print_to_stdout(Text.assemble(to_safe_text(machine.name, style="bold"), to_safe_text(f": {', '.join(places)}")))
    health = {None: "unknown", True: "healthy", False: "unhealthy"}[machine.is_healthy]
    facts = (
        ("assessed", _format_age(machine.assessed_at, now)),
        ("last seen", _format_age(machine.last_seen, now)),
        ("health", health),
        ("paused", machine.opted_out.removeprefix("paused ") or "no"),
        ("rollout", _describe_progress(explanation)),
        ("waits for", _describe_waiting(explanation)),
        ("next run", format_window(explanation.next_run, now) if explanation.next_run else "not known"),
    )
    for label, text in facts:
        print_to_stdout(Text.assemble((f"  {label:<10} ", "dim"), to_safe_text(text)))
    print_to_stdout("")
    _print_deadlines(explanation)


def _describe_progress(explanation: AutomaticExplanation) -> str:
    progress = explanation.progress
    if progress is None:
        return f"{explanation.rollout_id} does not concern it" if explanation.rollout_id else "none yet"
    tries = f" after {format_count(progress.tries, 'try').replace('trys', 'tries')}" if progress.tries else ""
    return f"{explanation.rollout_id}: {progress.stage.value}{tries}{f', {progress.reason}' if progress.reason else ''}"


def _describe_waiting(explanation: AutomaticExplanation) -> str:
    waiting = explanation.waiting
    if waiting is None and explanation.machine.assessed_at is None:
        return "its first assessment, which says what it lacks"
    if waiting is None:
        return "nothing" if explanation.deadlines else "nothing: it has no update to install"
    return f"{waiting.reason}{f', until {format_day_and_time(waiting.until)}' if waiting.until else ''}"


def _format_age(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    return f"{format_day_and_time(moment)} ({format_duration(max(0.0, (now - moment).total_seconds()))} ago)"


def _print_deadlines(explanation: AutomaticExplanation) -> None:
    others = f"{format_count(explanation.others, 'pending update')} of other kinds" if explanation.others else ""
    if not explanation.deadlines:
        print_to_stdout(f"No update is due{f'; {others}' if others else ''}.")
        return
    grid = build_table(
        "update", "version", build_unwrapped_column("missing since"), build_unwrapped_column("due"), "remark"
    )
    for deadline in explanation.deadlines[:_MAX_UPDATES]:
        grid.add_row(
            to_safe_text(deadline.update.name),
            to_safe_text(deadline.update.version),
            Text(f"{deadline.update.since.astimezone():%Y-%m-%d}"),
            Text(
                f"{deadline.due.astimezone():%Y-%m-%d %H:%M}",
                style="bold red" if deadline.due < explanation.now else "",
            ),
            to_safe_text(deadline.remark, style="yellow", limit=60),
        )
    print_to_stdout(grid, "")
    more = len(explanation.deadlines) - _MAX_UPDATES
    parts = [format_count(len(explanation.deadlines), "due update"), *([others] if others else [])]
    print_to_stdout(f"{', '.join(parts)}{f'; the last {more} are not shown' if more > 0 else ''}.")


def build_explanation_json(explanation: AutomaticExplanation) -> dict[str, object]:
    """Return it as JSON data."""
    machine, progress = explanation.machine, explanation.progress
    return {
        "at": format_iso_utc(explanation.now),
        "machineName": machine.name,
        "location": machine.location or None,
        "availabilityZone": machine.availability_zone or None,
        "zone": machine.zone,
        "sets": list(machine.sets),
        "optedOut": machine.opted_out or None,
        "assessedDateTime": format_iso_utc(machine.assessed_at),
        "lastSeenDateTime": format_iso_utc(machine.last_seen),
        "healthy": machine.is_healthy,
        "rollout": explanation.rollout_id or None,
        "rolloutState": progress.stage.value if progress else None,
        "tries": progress.tries if progress else 0,
        "waiting": build_waiting_json(explanation.waiting) if explanation.waiting else None,
        "nextRun": build_run_json(explanation.next_run) if explanation.next_run else None,
        "updates": [
            {
                "patchName": deadline.update.name,
                "version": deadline.update.version,
                "classifications": [deadline.update.classification.value],
                "missingSince": format_iso_utc(deadline.update.since),
                "due": format_iso_utc(deadline.due),
                "cves": list(deadline.update.cves),
                "remark": deadline.remark or None,
            }
            for deadline in explanation.deadlines
        ],
        "otherPatchCount": explanation.others,
    }
