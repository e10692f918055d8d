"""Prints the state of the fleet, and builds its JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import (
    print_to_stdout,
    render_json,
    render_state,
    shorten_list,
    to_safe_text,
    write_json,
)
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_table, build_row_table
from fleetpatch.cli.runtime.table import TextTable, build_column, build_table
from fleetpatch.cli.views.update_cells import (
    render_classification,
    render_hotpatch_status,
    render_update_name,
    render_version_change,
)
from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.model import Update
from tasks.domain.rows.machines import MachineRow
from tasks.domain.rows.updates import build_missing_update_row
from tasks.domain.states import ReadinessState, YesNoUnknown
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import NO_FIGURE, format_age, format_count
from tasks.reports.sanitizing import sanitize_to_one_line

MAX_NAMES = 5

MissingUpdates = Mapping[str, Sequence[Update]]
"""What each machine lacks, by its name."""


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
        text = render_hotpatch_status(row.hotpatch_status)
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
    waiting = [row for row in rows if row.in_effect is YesNoUnknown.NO]
    if waiting:
        print_to_stdout("", f"Installed, and not in effect ({format_count(len(waiting), 'machine')}):")
        print_to_stdout(*(to_safe_text(f"  {row.name}: {row.waits_for}") for row in waiting[:MAX_NAMES]))
    never = [row.name for row in rows if row.tried_at is None]
    if never:
        print_to_stdout(
            "", f"Never assessed: {', '.join(shorten_list(never, MAX_NAMES))}. To assess them: fleetpatch assess"
        )


def _format_answer_age(row: MachineRow, now: datetime) -> str:
    return format_age(row.answered_at, now) if row.answered_at is not None else "never"


def select_missing_updates(
    machines: Sequence[Machine], latest: Mapping[str, Sequence[Update]], *, urgent: bool
) -> MissingUpdates:
    """Return what each machine lacks, in the order of the machines. Those that have never answered are missing.

    ``latest``: what machines lacked at their newest answer. Machines that lack the same share an object, here and in
    the result.
    ``urgent``: leave out all but critical and security updates.
    """
    selected = {
        id(updates): [update for update in updates if not urgent or update.classification.is_urgent]
        for updates in latest.values()
    }
    return {machine.name: selected[id(latest[machine.name])] for machine in machines if machine.name in latest}


@dataclass(frozen=True, slots=True)
class UpdateGroup:
    """An update that machines lack, and their names; a machine of several architectures stands there for each."""

    update: Update
    machines: list[str]


UPDATE_GROUP_FACTS: Final[Sequence[Fact[UpdateGroup]]] = (
    Fact("", lambda group: render_update_name(group.update), "update", wraps=True),
    Fact("", lambda group: render_classification(group.update), "classification"),
    Fact("", lambda group: group.update.available, "new version", wraps=True),
    Fact("", lambda group: len(group.machines), "machines", is_number=True),
    Fact("", lambda group: _join_names(group.machines), "names", style="dim", wraps=True),
)


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(sanitize_to_one_line(name) for name in shorten_list(names, MAX_NAMES))


def print_missing_by_update(missing_updates: MissingUpdates, machines: Sequence[Machine]) -> None:
    """Print a line for each update and version, with its machines: security first, then the most machines."""
    keys = {id(update): (update.name, update.available) for updates in missing_updates.values() for update in updates}
    groups: dict[tuple[str, str], UpdateGroup] = {}
    for name, updates in missing_updates.items():
        for update in updates:
            key = keys[id(update)]
            if key not in groups:
                groups[key] = UpdateGroup(update, [])
            groups[key].machines.append(name)
    by_urgency = sorted(
        groups.items(), key=lambda item: (not item[1].update.classification.is_urgent, -len(item[1].machines), item[0])
    )
    table = build_list_table(UPDATE_GROUP_FACTS, [group for _, group in by_urgency])
    _print_missing_table(table, format_count(len(groups), "update"), missing_updates, machines)


MISSING_UPDATE_FACTS: Final[Sequence[Fact[Update]]] = (
    Fact("", render_update_name, "update", wraps=True),
    Fact("", render_classification, "classification"),
    Fact("", render_version_change, "installed → new", wraps=True),
    Fact("", lambda update: update.remark, "", style="yellow", limit=40, wraps=True),
)


def print_missing_by_machine(missing_updates: MissingUpdates, machines: Sequence[Machine]) -> None:
    """Print a line for each update of each machine."""
    columns = (build_column(fact.heading or "", wraps=fact.wraps) for fact in MISSING_UPDATE_FACTS)
    table = build_table(build_column("machine"), *columns)
    rows: dict[int, list[list[Text]]] = {}  # of each list: machines that lack the same share them
    cells: dict[int, list[Text]] = {}
    for updates in missing_updates.values():
        if id(updates) not in rows:
            by_urgency = sorted(updates, key=lambda update: (not update.classification.is_urgent, update.name))
            rows[id(updates)] = [
                cells.get(id(update)) or cells.setdefault(id(update), _build_missing_cells(update))
                for update in by_urgency
            ]
    same_machine = Text()
    for name, updates in sorted(missing_updates.items()):
        for number, shared in enumerate(rows[id(updates)]):
            table.add_row(same_machine if number else to_safe_text(name), *shared)
    _print_missing_table(table, format_count(len(table.rows), "missing update"), missing_updates, machines)


def _build_missing_cells(update: Update) -> list[Text]:
    return [fact.build_cell(update) for fact in MISSING_UPDATE_FACTS]


def _print_missing_table(
    table: TextTable, count: str, missing_updates: MissingUpdates, machines: Sequence[Machine]
) -> None:
    if table.rows:
        print_to_stdout(table, "", f"{count} on {format_count(len(missing_updates), 'assessed machine')}.")
    else:
        print_to_stdout("No update is missing.")
    unknown = [machine.name for machine in machines if machine.name not in missing_updates]
    if unknown:
        print_to_stdout(f"Not known, because never assessed: {', '.join(shorten_list(unknown, MAX_NAMES))}")


def print_missing_json(missing_updates: MissingUpdates, since: Mapping[tuple[str, str], datetime]) -> None:
    """Print a row for each update of each machine as JSON. What the rows of an update have in common is written once.

    ``since``: since when, by machine and name.
    """
    parts: dict[int, tuple[str, str, str]] = {}
    moments: dict[datetime | None, str] = {}
    rows: list[str] = []
    for machine, updates in missing_updates.items():
        name = render_json(machine)
        for update in updates:
            at = since.get((machine, update.name))
            if at not in moments:
                moments[at] = render_json(build_row_json(build_missing_update_row("", update, at))[_SINCE_NAME])
            if id(update) not in parts:
                parts[id(update)] = _split_row(update)
            begin, middle, end = parts[id(update)]
            rows.append(f"{begin}{name}{middle}{moments[at]}{end}")
    begin, between, end = render_json({"updates": [None, None]}).split("null")
    write_json(begin + between.join(rows) + end if rows else render_json({"updates": []}))


_MACHINE: Final = '"machineName": '
_SINCE_NAME: Final = "sinceDateTime"
_SINCE: Final = f'\n   "{_SINCE_NAME}": '
"""How a row writes them. A line end within a value is an escape: this can only be a key."""


def _split_row(update: Update) -> tuple[str, str, str]:
    """Return the row of an update as JSON: before the machine, from there to since when it lacks it, and the rest."""
    row = render_json(build_row_json(build_missing_update_row("", update, None)), "\n  ")
    begin, _, rest = row.partition(f'{_MACHINE}""')
    middle, _, end = rest.partition(f"{_SINCE}null")
    return begin + _MACHINE, middle + _SINCE, end
