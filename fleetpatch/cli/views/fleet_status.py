"""Prints the state of the fleet, and builds its JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_state, shorten_list, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_table, build_row_table
from fleetpatch.cli.runtime.table import TextTable
from fleetpatch.cli.views.hotpatch import render_status
from fleetpatch.cli.views.plan import render_classification, render_update_name, render_version_change
from inventory.machine import Machine
from tasks.domain.model import Assessment, Update
from tasks.domain.rows.machines import MachineRow
from tasks.domain.states import ReadinessState
from tasks.reports.formatting import NO_FIGURE, format_age, format_count
from tasks.reports.sanitizing import sanitize_to_one_line

MAX_NAMES = 5

MissingUpdates = Sequence[tuple[Machine, Update]]


def print_machine_table(rows: Sequence[MachineRow], now: datetime, columns: Sequence[str] = ()) -> None:
    """Print machines with these columns; without any, with the usual ones, and remarks below."""
    if columns:
        print_to_stdout(build_row_table(MachineRow, rows, columns))
        return

    def render_readiness(row: MachineRow) -> Text:
        if row.readiness is ReadinessState.UNKNOWN:
            return Text(NO_FIGURE)
        label = "not ready" if row.readiness is ReadinessState.NOT_READY else "ready"
        return Text(label, style=render_state(row.readiness).style)

    def render_hotpatch(row: MachineRow) -> Text:
        """Return the status of a machine for a narrow column, with the day of its next baseline."""
        text = render_status(row.hotpatch_status)
        if row.next_baseline_on is not None:
            text.append(f" {row.next_baseline_on.removeprefix(f'{now.year}-')}", style="dim")
        return text

    has_hotpatches = any(row.hotpatch_status is not None for row in rows)
    usual_columns: list[str | Shown] = [
        "name",
        "compliance",
        Shown("environment", heading="env", limit=12),
        Shown("system", limit=16),
        Shown("urgent", style="red"),
        "other",
        Shown("services_to_restart", style="yellow"),
        *([Shown("hotpatch_status", render=render_hotpatch)] if has_hotpatches else []),
        Shown("readiness", render=render_readiness),
        Shown("answered_at", is_number=True, render=lambda row: _format_answer_age(row, now)),
    ]
    print_to_stdout(build_row_table(MachineRow, rows, usual_columns))
    _print_remarks(rows, now)


def _print_remarks(rows: Sequence[MachineRow], now: datetime) -> None:
    """Print which machines gave no answer, and what the column of services means."""
    silent = [row for row in rows if row.tried_at is not None and row.tried_at != row.answered_at]
    if silent:
        print_to_stdout("", f"No answer at the last assessment ({format_count(len(silent), 'machine')}):")
    for row in silent[:MAX_NAMES]:
        asked_at, last = format_age(row.tried_at or now, now), row.last_known_compliance
        before = f"{last} {_format_answer_age(row, now)}" if last is not None else "it has never answered"
        print_to_stdout(to_safe_text(f"  {row.name}: asked {asked_at}; last known: {before}"))
    if len(silent) > MAX_NAMES:
        print_to_stdout(f"  and {len(silent) - MAX_NAMES} more")
    if any(row.services_to_restart for row in rows):
        print_to_stdout("", "restart: number of services that run replaced files. fleetpatch why MACHINE names them.")
    never = [row.name for row in rows if row.tried_at is None]
    if never:
        print_to_stdout(
            "", f"Never assessed: {', '.join(shorten_list(never, MAX_NAMES))}. To assess them: fleetpatch assess"
        )


def _format_answer_age(row: MachineRow, now: datetime) -> str:
    return format_age(row.answered_at, now) if row.answered_at is not None else "never"


def find_missing_updates(
    machines: Sequence[Machine], latest: Mapping[str, Assessment], *, urgent: bool
) -> MissingUpdates:
    """Return every missing update of every machine, in the order of the machines."""
    return [
        (machine, update)
        for machine in machines
        if (assessment := latest.get(machine.name)) is not None and assessment.packages is not None
        for update in assessment.packages.updates
        if not urgent or update.classification.is_urgent
    ]


UPDATE_GROUP_FACTS: Final[Sequence[Fact[MissingUpdates]]] = (
    Fact("", lambda group: render_update_name(group[0][1]), "update", wraps=True),
    Fact("", lambda group: render_classification(group[0][1]), "classification"),
    Fact("", lambda group: group[0][1].available, "new version", wraps=True),
    Fact("", len, "machines", is_number=True),
    Fact("", lambda group: _join_names([machine.name for machine, _ in group]), "names", style="dim", wraps=True),
)


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(sanitize_to_one_line(name) for name in shorten_list(names, MAX_NAMES))


def print_missing_by_update(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update and version, with its machines: security first, then the most machines."""
    groups: dict[tuple[str, str], list[tuple[Machine, Update]]] = {}
    for machine, update in missing_updates:
        groups.setdefault((update.name, update.available), []).append((machine, update))
    by_urgency = sorted(
        groups.items(),
        key=lambda item: (not item[1][0][1].classification.is_urgent, -len(item[1]), item[0]),
    )
    table = build_list_table(UPDATE_GROUP_FACTS, [group for _, group in by_urgency])
    _print_missing_table(table, format_count(len(groups), "update"), machines, latest)


def print_missing_by_machine(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update of each machine."""
    rows: list[tuple[str, Update]] = []
    name = ""
    for machine, update in sorted(
        missing_updates,
        key=lambda pair: (pair[0].name, not pair[1].classification.is_urgent, pair[1].name),
    ):
        rows.append((machine.name if machine.name != name else "", update))
        name = machine.name
    facts: Sequence[Fact[tuple[str, Update]]] = (
        Fact("", lambda row: row[0], "machine"),
        Fact("", lambda row: render_update_name(row[1]), "update", wraps=True),
        Fact("", lambda row: render_classification(row[1]), "classification"),
        Fact("", lambda row: render_version_change(row[1]), "installed → new", wraps=True),
        Fact("", lambda row: row[1].remark, "", style="yellow", limit=40, wraps=True),
    )
    _print_missing_table(build_list_table(facts, rows), format_count(len(rows), "missing update"), machines, latest)


def _print_missing_table(
    table: TextTable, count: str, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    if table.rows:
        assessed = format_count(sum(machine.name in latest for machine in machines), "assessed machine")
        print_to_stdout(table, "", f"{count} on {assessed}.")
    else:
        print_to_stdout("No update is missing.")
    unknown = [machine.name for machine in machines if machine.name not in latest]
    if unknown:
        print_to_stdout(f"Not known, because never assessed: {', '.join(shorten_list(unknown, MAX_NAMES))}")
