"""Prints the systems' own updaters and what became of switches, and builds their JSON."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.views.orders import build_change_facts
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


SWITCH_FACTS: Final = build_change_facts(Fact("updaterStatus", lambda result: result.status, "updates itself"))
