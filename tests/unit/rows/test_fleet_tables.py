"""The fleet in memory answers questions about rows."""

from typing import Annotated

from tasks.domain.rows import Column, row
from tasks.reports.fleet_tables import FleetTables


@row
class Pending:
    """A missing update."""

    machine: Annotated[str, Column("The machine.")]
    name: Annotated[str, Column("The update.")]
    size: Annotated[int | None, Column("Its size.", unit="bytes")]


def _pend(machine: str, *names: str) -> list[Pending]:
    return [Pending(machine=machine, name=name, size=None) for name in names]


BY_MACHINE = "SELECT machine, list(name ORDER BY name) FROM updates GROUP BY machine ORDER BY machine"


def test_rows_of_some_machines_are_replaced() -> None:
    tables = FleetTables()
    tables.create("updates", Pending)
    assert tables.ask("SELECT count(*) FROM updates") == [(0,)]
    tables.create("updates", Pending, [*_pend("a", "x", "y"), *_pend("b", "x")])
    tables.replace("updates", Pending, _pend("a", "z"), "machine", {"a", "c"})
    assert tables.ask(BY_MACHINE) == [("a", ["z"]), ("b", ["x"])]
    tables.replace("updates", Pending, [], "machine", {"b"})
    assert tables.ask(BY_MACHINE) == [("a", ["z"])]
    tables.close()


def test_values_are_parameters() -> None:
    tables = FleetTables()
    tables.create("updates", Pending, _pend("a'; DROP TABLE updates; --", "x"))
    found = tables.ask(
        "SELECT name, size FROM updates WHERE machine = $machine", {"machine": "a'; DROP TABLE updates; --"}
    )
    assert found == [("x", None)]
    tables.close()
