"""Prints how long history is kept, and builds its JSON."""

from rich.text import Text

from flows.cli.runtime.output import print_to_stdout, to_safe_text
from tasks.model import RunInfo
from tasks.reporting.formatting import format_iso_utc
from tasks.rules.retention import Retention


def build_history_json(place: str, retention: Retention, oldest: RunInfo | None) -> dict[str, object]:
    """Return it as JSON data; null days: forever."""
    return {
        "records": place,
        "keepAssessmentsDays": retention.assessments_days,
        "keepRunsDays": retention.runs_days,
        "oldestRunStartDateTime": format_iso_utc(oldest.started_at) if oldest else None,
    }


def print_history_settings(place: str, retention: Retention, oldest: RunInfo | None) -> None:
    """Print it."""
    print_to_stdout(Text.assemble(("Records ", "bold"), to_safe_text(place)))
    assessments_kept = _format_retention_days(retention.assessments_days)
    print_to_stdout(f"Runs that only read machines, and superseded assessments: kept {assessments_kept}.")
    print_to_stdout(f"All other runs, with outcomes and journal: kept {_format_retention_days(retention.runs_days)}.")
    print_to_stdout("The newest assessment and the measured speed of each machine are always kept.")
    if oldest is not None:
        print_to_stdout(f"The oldest run began at {oldest.started_at:%Y-%m-%d %H:%M} UTC.")
    if retention.is_forever:
        print_to_stdout(
            "", "Nothing is ever deleted. To change this: fleetpatch history --keep-assessments 90 --keep-runs 730"
        )


def _format_retention_days(days: int | None) -> str:
    return "forever" if days is None else f"for {days} days"
