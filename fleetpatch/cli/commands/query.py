"""query: ask the records in SQL. Reads only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import ConfigurationsOption, InventoryOption, JsonOption, RecordsOption, app, parse_path
from fleetpatch.cli.runtime.output import print_to_stderr

if TYPE_CHECKING:
    from inventory.machine import Inventory
    from tasks.domain.rows.components import ComponentRow
    from tasks.records.sql_records import SqlRecords

DEFAULT_DAYS = 30.0
"""As many days as Azure keeps installations."""


@app.command("query", rich_help_panel="Look back")
def query_records(
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help='One statement, e.g. "SELECT * FROM machines". "SHOW TABLES" lists all.'),
    ],
    days: Annotated[
        float, typer.Option("--days", min=1, max=36600, help="How old runs, windows and days may be, in days.")
    ] = DEFAULT_DAYS,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout, and nothing else.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", parser=parse_path, help="Write a Parquet file.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=86400, help="How long it may take.")] = 120.0,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the records in SQL: tables like those of Azure Resource Graph, and plain ones. Reads only."""
    from fleetpatch.cli.runtime.machine_selection import load_inventory_or_warn
    from fleetpatch.cli.views.query import print_answer_csv, print_answer_json, print_answer_table, write_parquet
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from tasks.domain.errors import RequestError
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.queries.tables import QueryTables
    from tasks.records.setup import open_records
    from tasks.reports.query.engine import find_tables, open_query

    if as_json + as_csv + (parquet is not None) > 1:
        raise RequestError("--json, --csv and --parquet exclude each other")
    named = find_tables(sql)
    # Without an inventory, machines have no environment, location and tags.
    needs_inventory = not {"machines", "components"}.isdisjoint(named)
    loaded_inventory = load_inventory_or_warn(inventory, is_required=False) if needs_inventory else None
    assignments = _read_assignments(config, inventory) if "assignments" in named else ()
    now = SystemClock().now()
    since = now - timedelta(days=days)
    with open_records(records) as database:
        tables = QueryTables(
            database,
            since,
            loaded_inventory,
            assignments,
            now=now,
            baselines=load_baseline_calendar(),
            list_components=lambda: _list_components(database, loaded_inventory, now),
        )
        with open_query(tables, seconds) as query:
            answer = query.ask(sql)
    if parquet is not None:
        write_parquet(answer, parquet)
    elif as_json:
        print_answer_json(answer)
    elif as_csv:
        print_answer_csv(answer)
    else:
        print_answer_table(answer)


def _list_components(records: "SqlRecords", inventory: "Inventory | None", now: datetime) -> "Sequence[ComponentRow]":
    """Return the components of the inventory's machines; nothing without an inventory or a file of components."""
    from flows.components.component_file import load_catalogue
    from flows.components.fleet_components import read_knowledge
    from flows.components.overview import build_component_rows

    if inventory is None:
        return ()
    knowledge = read_knowledge(records, load_catalogue(inventory.source))
    return list(build_component_rows(knowledge, inventory.machines, now))


def _read_assignments(config: Path | None, inventory: Path | None) -> Sequence[tuple[str, str]]:
    """Return which configurations select which machines; nothing without configurations."""
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.configuration.model import load_inventories
    from deployments.preview.zone_schedules import build_zone_schedules
    from inventory.errors import FleetpatchError
    from tasks.domain.protocols.clock import SystemClock

    try:
        configurations = load_configurations(find_configurations(config), SystemClock().now().date())
        schedules = build_zone_schedules(configurations, load_inventories(configurations, inventory))
    except FleetpatchError as error:
        if config is not None:
            raise
        print_to_stderr(f"without configurations: {error.message}")
        return ()
    return sorted({(name, schedule.configuration.name) for schedule in schedules for name in schedule.machines})
