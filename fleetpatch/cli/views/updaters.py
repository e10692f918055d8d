"""Prints the systems' own updaters and what became of switches, and builds their JSON."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.update_cells import render_change_state
from flows.orders.carrying_out import ChangeResult
from tasks.domain.rows.machines import MachineRow
from tasks.reports.formatting import format_count
from tasks.rules.own_updaters import UpdaterStatus, find_updater_status

_STYLES: Final = {UpdaterStatus.ON: "green", UpdaterStatus.OFF: "", UpdaterStatus.UNKNOWN: "dim"}


def _render_status(status: UpdaterStatus) -> Text:
    return Text(status.value, _STYLES[status])


STATUS_FACTS: Final[Sequence[Fact[MachineRow]]] = (
    Fact("machineName", lambda row: row.name, "machine"),
    Fact("owner", lambda row: row.owner, "owner"),
    Fact(
        "updaterStatus",
        lambda row: find_updater_status(row.own_updaters),
        "updates itself",
        lambda row: _render_status(find_updater_status(row.own_updaters)),
    ),
    Fact("ownUpdaters", lambda row: row.own_updaters, "by", lambda row: ", ".join(row.own_updaters or ()) or None),
    Fact(
        "updaterDrift",
        lambda row: row.updater_drift,
        "remarks",
        lambda row: to_safe_text(row.updater_drift, "yellow"),
        wraps=True,
    ),
)


def build_status_json(rows: Sequence[MachineRow]) -> dict[str, object]:
    """Return the updaters of machines as JSON data."""
    return {"machines": build_list_json(STATUS_FACTS, rows)}


def print_statuses(rows: Sequence[MachineRow]) -> None:
    """Print the updaters of machines as a table, and how many differ from their owners' words."""
    print_to_stdout(build_list_table(STATUS_FACTS, rows))
    drifted = sum(bool(row.updater_drift) for row in rows)
    if drifted:
        print_to_stdout("", Text(f"{format_count(drifted, 'machine')}: not as the owner says", "yellow"))


def _iterate_remarks(result: ChangeResult) -> Iterator[Text]:
    yield from (to_safe_text(step, style="dim") for step in result.steps)
    yield from (to_safe_text(text) for text in (result.message, result.remedy) if text)


SWITCH_FACTS: Final[Sequence[Fact[ChangeResult]]] = (
    Fact("machineName", lambda result: result.machine, "machine"),
    Fact("result", lambda result: result.state, "result", lambda result: render_change_state(result.state)),
    Fact("updaterStatus", lambda result: result.status, "updates itself"),
    Fact("message", lambda result: result.message or None),
    Fact("remedy", lambda result: result.remedy or None),
    Fact("steps", lambda result: result.steps),
    Fact("", lambda result: Text("\n").join(_iterate_remarks(result)), "remarks", wraps=True),
)


def build_switch_json(action: str, results: Sequence[ChangeResult], *, dry_run: bool) -> dict[str, object]:
    """Return what became of a switch as JSON data."""
    return {"action": action, "dryRun": dry_run, "machines": build_list_json(SWITCH_FACTS, results)}
