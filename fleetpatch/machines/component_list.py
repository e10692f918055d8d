"""The components of the fleet for the page and the API: rows with filters, from the file and the records."""

from collections import Counter
from datetime import datetime

from fleetpatch.machines.snapshot import FleetSnapshot
from flows.components.component_file import Catalogue, load_catalogue
from flows.components.fleet_components import read_knowledge
from flows.components.overview import ComponentKnowledge, build_component_rows
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from inventory.machine import Inventory
from inventory.scope import Scope
from tasks.domain.components import ComponentEnrolment, ComponentStanding
from tasks.domain.errors import RequestError
from tasks.domain.rows.components import ComponentRow
from tasks.records.sql_records import SqlRecords


@dataclass(frozen=True, slots=True)
class ComponentFilters:
    """What is shown. "" is no filter."""

    component: str = ""
    standing: str = ""
    automatic: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class ComponentsView:
    """The components of the fleet."""

    catalogue: Catalogue
    rows: tuple[ComponentRow, ...] = ()  # those that the filters select
    standings: tuple[tuple[str, int], ...] = ()  # how many of all rows stand how
    enrolments: tuple[ComponentEnrolment, ...] = ()
    problems: tuple[str, ...] = ()  # why something is not known, in words


def read_fleet_components(snapshot: FleetSnapshot, records: SqlRecords) -> tuple[ComponentKnowledge, Inventory]:
    """Return what is known of components, and the inventory, for an act.

    Raises:
        InvalidComponents: the file has faults.
        RecordsError: the records can't be read.
        RequestError: there is no inventory here.
    """
    inventory = snapshot.inventory
    if inventory is None:
        raise RequestError("the inventory can't be read here", hint="The page of machines says why.")
    return read_knowledge(records, load_catalogue(inventory.source)), inventory


def read_components_view(
    snapshot: FleetSnapshot, records: SqlRecords, now: datetime, filters: ComponentFilters
) -> ComponentsView:
    """Return the components of the fleet. A file with faults is a problem of the page, and no error.

    Raises:
        InventoryError: the scope of the filters is not valid.
        RecordsError: the records can't be read.
    """
    if snapshot.inventory is None:
        return ComponentsView(Catalogue(), problems=tuple(snapshot.problems))
    try:
        catalogue = load_catalogue(snapshot.inventory.source)
    except FleetpatchError as error:
        return ComponentsView(Catalogue(), problems=(*snapshot.problems, str(error)))
    knowledge = read_knowledge(records, catalogue)
    scope = Scope.parse(filters.scope) if filters.scope.strip() else None
    machines = [machine for machine in snapshot.inventory.machines if scope is None or scope.matches(machine)]
    every_row = [
        row
        for row in build_component_rows(knowledge, machines, now)
        if row.standing is not ComponentStanding.NOT_SUPPORTED
    ]
    rows = tuple(
        row
        for row in every_row
        if filters.component in {"", row.component}
        and filters.standing in {"", row.standing.value}
        and filters.automatic in {"", row.automatic.value}
    )
    standings = Counter(row.standing.value for row in every_row)
    ordered = tuple((standing.value, standings[standing.value]) for standing in ComponentStanding)
    shown = tuple((standing, count) for standing, count in ordered if count)
    return ComponentsView(catalogue, rows, shown, knowledge.enrolments, tuple(snapshot.problems))
