"""Shows orders to machines outside of runs: as a table or JSON."""

from collections.abc import Sequence

from fleetpatch.cli.runtime.output import print_to_stdout
from fleetpatch.cli.runtime.row_table import Shown, build_row_table
from fleetpatch.cli.views.update_cells import render_change_state
from tasks.domain.rows.machine_orders import MachineOrderRow
from tasks.reports.export.tabular_formats import build_row_json


def build_orders_json(rows: Sequence[MachineOrderRow]) -> dict[str, object]:
    """Return orders as JSON data."""
    return {"orders": list(map(build_row_json, rows))}


def print_orders(rows: Sequence[MachineOrderRow]) -> None:
    """Print orders as a table, the newest on top."""
    if not rows:
        print_to_stdout("No order is recorded.")
        return
    result = Shown("result", render=lambda row: render_change_state(row.result))
    columns: list[str | Shown] = ["machine", "act", result, "by", "began_at", Shown("message", wraps=True)]
    print_to_stdout(build_row_table(MachineOrderRow, rows, columns))
