"""Prints why a machine is patched automatically when it is, or returns it as JSON data."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from deployments.preview.automatic_status import AutomaticExplanation, UpdateDeadline
from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.automatic import WAITING_FACTS, format_day_and_time, format_window, list_run_facts
from tasks.domain.assessment import strip_update_id
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc
from tasks.rules.calendar.local_time import format_duration

_MAX_UPDATES = 40


def print_automatic_explanation(explanation: AutomaticExplanation) -> None:
    """Print it."""
    machine, now = explanation.machine, explanation.now
    details = [
        f"location {machine.location or NO_FIGURE}",
        *([f"availability zone {machine.availability_zone}"] if machine.availability_zone else []),
        f"clock of {machine.zone}",
        *([f"sets {', '.join(machine.sets)}"] if machine.sets else []),
    ]
    print_to_stdout(Text.assemble(to_safe_text(machine.name, style="bold"), to_safe_text(f": {', '.join(details)}")))
    health = {None: "unknown", True: "healthy", False: "unhealthy"}[machine.is_healthy]
    progress, rollout = explanation.progress, "none yet"
    if progress is not None:
        tries = f" after {format_count(progress.tries, 'try').replace('trys', 'tries')}" if progress.tries else ""
        reason = f", {progress.reason}" if progress.reason else ""
        rollout = f"{explanation.rollout_id}: {progress.stage.value}{tries}{reason}"
    elif explanation.rollout_id:
        rollout = f"{explanation.rollout_id} does not concern it"
    facts = (
        ("assessed", _format_age(machine.assessed_at, now)),
        ("last seen", _format_age(machine.last_seen, now)),
        ("health", health),
        ("paused", machine.opted_out.removeprefix("paused ") or "no"),
        ("rollout", rollout),
        ("waits for", _describe_waiting(explanation)),
        ("next run", format_window(explanation.next_run, now) if explanation.next_run else "not known"),
    )
    for label, text in facts:
        print_to_stdout(Text.assemble((f"  {label:<10} ", "dim"), to_safe_text(text)))
    print_to_stdout("")
    _print_deadlines(explanation)


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
    other_updates = f"{format_count(explanation.others, 'pending update')} of other kinds" if explanation.others else ""
    if not explanation.deadlines:
        print_to_stdout(f"No update is due{f'; {other_updates}' if other_updates else ''}.")
        return
    facts = _list_deadline_facts(explanation.now)
    print_to_stdout(build_list_table(facts, explanation.deadlines[:_MAX_UPDATES]), "")
    more = len(explanation.deadlines) - _MAX_UPDATES
    parts = [format_count(len(explanation.deadlines), "due update"), *([other_updates] if other_updates else [])]
    print_to_stdout(f"{', '.join(parts)}{f'; the last {more} are not shown' if more > 0 else ''}.")


def _list_deadline_facts(now: datetime) -> Sequence[Fact[UpdateDeadline]]:
    def render_due(deadline: UpdateDeadline) -> Text:
        return Text(f"{deadline.due.astimezone():%Y-%m-%d %H:%M}", style="bold red" if deadline.due < now else "")

    def format_since(deadline: UpdateDeadline) -> str:
        return f"{deadline.update.since.astimezone():%Y-%m-%d}"

    return (
        Fact("patchName", lambda deadline: deadline.update.name, "update", wraps=True),
        Fact("version", lambda deadline: strip_update_id(deadline.update.version), "version", wraps=True),
        Fact("classifications", lambda deadline: [deadline.update.classification]),
        Fact("missingSince", lambda deadline: deadline.update.since, "missing since", format_since),
        Fact("due", lambda deadline: deadline.due, "due", render_due),
        Fact("cves", lambda deadline: deadline.update.cves),
        Fact(
            "remark", lambda deadline: deadline.remark or None, "remark", lambda d: d.remark, "yellow", 60, wraps=True
        ),
    )


def build_automatic_explanation_json(explanation: AutomaticExplanation) -> dict[str, object]:
    """Return it as JSON data."""
    machine, progress = explanation.machine, explanation.progress
    waiting, run = explanation.waiting, explanation.next_run
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
        "waiting": build_list_json(WAITING_FACTS, [waiting])[0] if waiting else None,
        "nextRun": build_list_json(list_run_facts(explanation.now), [run])[0] if run else None,
        "updates": build_list_json(_list_deadline_facts(explanation.now), explanation.deadlines),
        "otherPatchCount": explanation.others,
    }
