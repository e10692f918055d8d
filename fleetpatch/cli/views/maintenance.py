"""Prints what is held for groups of machines, and builds its JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, print_warning, to_safe_text
from fleetpatch.cli.runtime.row_table import Shown, build_row_table
from inventory.name_lists import format_count
from tasks.domain.rows.maintenance import HeldPackageRow, HeldUpdateRow
from tasks.domain.states import MaintenanceStatus
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import NO_FIGURE
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.maintenance.look import is_look_missing

Packages = Sequence[tuple[HeldPackageRow, Sequence[HeldUpdateRow]]]


def build_held_json(rows: Sequence[HeldPackageRow], unknown: Mapping[str, str], now: datetime) -> dict[str, object]:
    """Return what is held as JSON data."""
    return {
        "groups": [build_row_json(row) for row in rows],
        "unknown": dict(unknown),
        "dateTime": now.isoformat(),
    }


def print_held(rows: Sequence[HeldPackageRow], unknown: Mapping[str, str], now: datetime) -> None:
    """Print a table of groups, the one whose last day comes first on top."""
    if rows:
        print_to_stdout(build_row_table(HeldPackageRow, rows, _build_columns(now)))
    elif not unknown:
        print_to_stdout("No configuration holds updates (`maintenance:`).")
    for row in rows:
        if row.looked_at is None:
            print_warning(f"{row.name}: nobody has looked at its machines yet, so its windows stay closed")
        elif is_look_missing(row.looked_at, now):
            age = format_duration((now - row.looked_at).total_seconds())
            print_warning(f"{row.name}: nobody has looked at it for {age}. Does a worker run control-maintenance?")
    for name, problem in unknown.items():
        print_warning(f"{name}: what is held is not known: {problem}")
    pending = [row for row in rows if row.status in {MaintenanceStatus.PENDING, MaintenanceStatus.RETRY_NOW}]
    if pending:
        print_unwrapped(f"To apply it now: fleetpatch maintenance apply {pending[0].name}")


def build_packages_json(packages: Packages, now: datetime) -> dict[str, object]:
    """Return packages with their contents as JSON data."""
    return {
        "groups": [
            {**build_row_json(row), "patches": [build_row_json(update) for update in updates]}
            for row, updates in packages
        ],
        "dateTime": now.isoformat(),
    }


def print_packages(packages: Packages, now: datetime) -> None:
    """Print packages with their contents."""
    for row, updates in packages:
        print_to_stdout(build_row_table(HeldPackageRow, [row], _build_columns(now)))
        if row.unread:
            print_warning(f"{format_count(row.unread, 'machine')} never gave an answer: what it lacks is not known")
        if row.reason:
            print_to_stdout(to_safe_text(f"Why it waits: {row.reason}"))
        if updates:
            print_to_stdout(
                build_row_table(HeldUpdateRow, updates, ("name", "version", "classification", "machines", "since"))
            )


def _build_columns(now: datetime) -> Sequence[str | Shown]:
    return (
        "name",
        "status",
        "machines",
        "updates",
        Shown("urgent", style="red"),
        Shown("first_seen", heading="age", render=lambda row: _render_age(row, now)),
        "not_before",
        "applies_at",
        "impact",
        Shown("reason", limit=200, wraps=True),
    )


def _render_age(row: HeldPackageRow, now: datetime) -> str:
    if row.first_seen is None or row.ended_at is not None:
        return NO_FIGURE
    return format_duration(max(0.0, (now - row.first_seen).total_seconds()))
