"""How long history is kept, on the screen and as JSON."""

from rich.text import Text

from flows.cli.screen import safe, say
from tasks.model import RunInfo
from tasks.reporting.text import iso
from tasks.rules.retention import Retention


def history_document(place: str, kept: Retention, oldest: RunInfo | None) -> dict[str, object]:
    """Return it as JSON data; null days: forever."""
    return {
        "records": place,
        "keepAssessmentsDays": kept.assessments_days,
        "keepRunsDays": kept.runs_days,
        "oldestRunStartDateTime": iso(oldest.started_at) if oldest else None,
    }


def tell_history(place: str, kept: Retention, oldest: RunInfo | None) -> None:
    """Show it."""
    say(Text.assemble(("Records ", "bold"), safe(place)))
    say(f"Runs that only look at machines, and superseded assessments: kept {_time(kept.assessments_days)}.")
    say(f"All other runs, with outcomes and journal: kept {_time(kept.runs_days)}.")
    say("Each machine's newest assessment and what was learned about its speed are always kept.")
    if oldest is not None:
        say(f"The oldest run began at {oldest.started_at:%Y-%m-%d %H:%M} UTC.")
    if kept.is_forever:
        say("", "Nothing is ever forgotten. To change that: fleetpatch history --keep-assessments 90 --keep-runs 730")


def _time(days: int | None) -> str:
    return "forever" if days is None else f"for {days} days"
