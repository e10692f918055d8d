"""Shows orders to machines outside of runs, and what became of them: as a table or JSON."""

from collections.abc import Sequence

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_row_table
from fleetpatch.cli.views.update_cells import render_change_state
from flows.orders.carrying_out import ChangeResult
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


def _render_change_remarks(result: ChangeResult) -> Text:
    lines = [to_safe_text(step, style="dim") for step in result.steps]
    return Text("\n").join([*lines, *(to_safe_text(text) for text in (result.message, result.remedy) if text)])


def build_change_facts(status: Fact[ChangeResult], *more: Fact[ChangeResult]) -> tuple[Fact[ChangeResult], ...]:
    """Return the facts of what became of an order. ``status``: of the machine afterwards."""
    return (
        Fact("machineName", lambda result: result.machine, "machine"),
        Fact("result", lambda result: result.state, "result", lambda result: render_change_state(result.state)),
        status,
        Fact("message", lambda result: result.message or None),
        Fact("remedy", lambda result: result.remedy or None),
        Fact("steps", lambda result: result.steps),
        *more,
        Fact("", _render_change_remarks, "remarks", wraps=True),
    )
