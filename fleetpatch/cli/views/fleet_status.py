"""Prints the state of the fleet, and builds its JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_state, shorten_list, to_safe_text
from fleetpatch.cli.runtime.row_table import Shown, build_row_table
from fleetpatch.cli.runtime.table import build_number_column, build_table, build_unwrapped_column
from fleetpatch.cli.views.hotpatch import render_status
from fleetpatch.cli.views.plan import render_classification, render_update_name, render_version_change
from inventory.machine import Machine
from tasks.domain.model import Assessment, Update
from tasks.domain.rows.machines import MachineRow
from tasks.domain.states import URGENT_CLASSIFICATIONS, ReadinessState
from tasks.reports.formatting import NO_FIGURE, format_age, format_count
from tasks.reports.sanitizing import sanitize_to_one_line

MAX_NAMES = 5

MissingUpdates = Sequence[tuple[Machine, Update]]


def print_machine_table(rows: Sequence[MachineRow], now: datetime, columns: Sequence[str] = ()) -> None:
    """Print machines as a table. Without any enrolment for hotpatches, their column is left out.

    Args:
        rows: the machines.
        now: the present time.
        columns: the names of the columns to show; none: the usual ones, with remarks below.
    """
    if columns:
        print_to_stdout(build_row_table(MachineRow, rows, columns))
        return
    has_hotpatches = any(row.hotpatch_status is not None for row in rows)
    shown: list[str | Shown] = [
        "name",
        "compliance",
        Shown("environment", heading="env", limit=12),
        Shown("system", limit=16),
        Shown("urgent", style="red"),
        "other",
        Shown("services_to_restart", style="yellow"),
        *([Shown("hotpatch_status", render=lambda row: _render_hotpatch(row, now))] if has_hotpatches else []),
        Shown("readiness", render=_render_readiness),
        Shown("answered_at", is_number=True, render=lambda row: _format_answer_age(row, now)),
    ]
    print_to_stdout(build_row_table(MachineRow, rows, shown))
    silent = [row for row in rows if row.tried_at is not None and row.tried_at != row.answered_at]
    if silent:
        print_to_stdout("", f"No answer at the last assessment ({format_count(len(silent), 'machine')}):")
    for row in silent[:MAX_NAMES]:
        asked, last = format_age(row.tried_at or now, now), row.last_known_compliance
        before = f"{last} {_format_answer_age(row, now)}" if last is not None else "it has never answered"
        print_to_stdout(to_safe_text(f"  {row.name}: asked {asked}; last known: {before}"))
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


def _render_readiness(row: MachineRow) -> Text:
    if row.readiness is ReadinessState.UNKNOWN:
        return Text(NO_FIGURE)
    word = "not ready" if row.readiness is ReadinessState.NOT_READY else "ready"
    return Text(word, style=render_state(row.readiness).style)


def _render_hotpatch(row: MachineRow, now: datetime) -> Text:
    """Return the status of a machine for a narrow column, with the day of its next baseline."""
    text = render_status(row.hotpatch_status)
    if row.next_baseline_on is not None:
        text.append(f" {row.next_baseline_on.removeprefix(f'{now.year}-')}", style="dim")
    return text


def find_missing_updates(
    machines: Sequence[Machine], latest: Mapping[str, Assessment], *, urgent: bool
) -> MissingUpdates:
    """Return every missing update of every machine, in the order of the machines."""
    return [
        (machine, update)
        for machine in machines
        if (assessment := latest.get(machine.name)) is not None and assessment.packages is not None
        for update in assessment.packages.updates
        if not urgent or update.classification in URGENT_CLASSIFICATIONS
    ]


def print_missing_by_update(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update and version, with its machines: security first, then the most machines."""
    groups: dict[tuple[str, str], list[tuple[Machine, Update]]] = {}
    for machine, update in missing_updates:
        groups.setdefault((update.name, update.available), []).append((machine, update))
    grid = build_table(
        "update", build_unwrapped_column("classification"), "new version", build_number_column("machines"), "names"
    )
    for (_, version), every in sorted(
        groups.items(),
        key=lambda item: (item[1][0][1].classification not in URGENT_CLASSIFICATIONS, -len(item[1]), item[0]),
    ):
        names = ", ".join(sanitize_to_one_line(name) for name in shorten_list([m.name for m, _ in every], MAX_NAMES))
        grid.add_row(
            render_update_name(every[0][1]),
            render_classification(every[0][1]),
            to_safe_text(version),
            str(len(every)),
            Text(names, style="dim"),
        )
    _print_missing_table(grid if groups else None, f"{format_count(len(groups), 'update')}", machines, latest)


def print_missing_by_machine(
    missing_updates: MissingUpdates, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    """Print a line for each update of each machine."""
    grid = build_table(
        build_unwrapped_column("machine"), "update", build_unwrapped_column("classification"), "installed → new", ""
    )
    before = ""
    for machine, update in sorted(
        missing_updates,
        key=lambda pair: (pair[0].name, pair[1].classification not in URGENT_CLASSIFICATIONS, pair[1].name),
    ):
        shown = machine.name if machine.name != before else ""
        grid.add_row(
            to_safe_text(shown),
            render_update_name(update),
            render_classification(update),
            render_version_change(update),
            to_safe_text(update.remark, "yellow", 40),
        )
        before = machine.name
    _print_missing_table(
        grid if missing_updates else None, format_count(len(missing_updates), "missing update"), machines, latest
    )


def _print_missing_table(
    grid: object, count: str, machines: Sequence[Machine], latest: Mapping[str, Assessment]
) -> None:
    assessed_machines = [machine for machine in machines if machine.name in latest]
    if grid is not None:
        print_to_stdout(grid, "")  # type: ignore[arg-type]  # a table
    print_to_stdout(
        f"{count} on {format_count(len(assessed_machines), 'assessed machine')}."
        if grid is not None
        else "No update is missing."
    )
    unknown = [machine.name for machine in machines if machine.name not in latest]
    if unknown:
        print_to_stdout(f"Not known, because never assessed: {', '.join(shorten_list(unknown, MAX_NAMES))}")
