"""The components of a process that runs: which ones a machine is asked for, and what a run upgrades."""

from collections.abc import Callable
from pathlib import Path

from flows.components.component_file import Catalogue, load_catalogue
from flows.components.overview import ComponentKnowledge, find_enrolled_scopes, find_held_back
from inventory.errors import InvalidFiles, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine
from tasks.domain.components import Component, ComponentOrder
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock
from tasks.records.components import SqlComponents
from tasks.records.queries.machines import read_installed_components, read_machine_states
from tasks.records.storage.database import Database


def read_knowledge(database: Database, catalogue: Catalogue) -> ComponentKnowledge:
    """Return what the records know of the components of a file.

    Raises:
        RecordsError: they can't be read.
    """
    if not catalogue.components:
        return ComponentKnowledge(catalogue)
    components = SqlComponents(database)
    states = read_machine_states(database)
    return ComponentKnowledge(
        catalogue,
        components.read_enrolments(),
        read_installed_components(database),
        {name: state.answered_at for name, state in states.items() if state.answered_at is not None},
        {component.name: components.read_tries(component.name) for component in catalogue.components},
    )


def require_component(catalogue: Catalogue, name: str) -> Component:
    """Return a component of a file.

    Raises:
        RequestError: the file does not have it, or there is no file.
    """
    component = catalogue.find(name)
    if component is not None:
        return component
    names = [known.name for known in catalogue.components]
    where = f"in {catalogue.path}" if catalogue.path is not None else "beside the inventory: components.yaml"
    raise RequestError(
        f"there is no component {name!r} {where}",
        hint=f"{did_you_mean(name, names)}`fleetpatch components list` shows all of them.",
    )


class FleetComponents:
    """The components for the ports of one run.

    The file is read once, before anything begins: a run that upgrades no component goes on without it if it is not
    valid, and says so. A run that replaces OS disks does not: what is on them would be lost.

    Args:
        requested: the component that the run upgrades, or "".
        replaces_disks: whether the run gives machines new OS disks. Then they are asked for all components.

    Attributes:
        enrolled: by machine, the components that are enrolled there, also those that the file does not have any more.
    """

    def __init__(
        self,
        database: Database,
        inventory: Inventory,
        path: Path | None,
        clock: Clock,
        say: Callable[[str], None],
        requested: str = "",
        *,
        replaces_disks: bool = False,
    ) -> None:
        self._database, self._inventory, self._clock = database, inventory, clock
        try:
            self._catalogue = load_catalogue(path)
        except (InvalidFiles, InventoryError) as error:
            if requested or replaces_disks:
                raise
            say(f"machines are not asked for components: {error}")
            self._catalogue = Catalogue()
        self.enrolled: dict[str, tuple[str, ...]] = {}
        self._asked: dict[str, tuple[Component, ...]] = {}
        if self._catalogue.components or replaces_disks:
            self._find_asked(requested, asks_all=replaces_disks)

    def _find_asked(self, requested: str, *, asks_all: bool) -> None:
        enrolments = SqlComponents(self._database).read_enrolments()
        listed = [component.name for component in self._catalogue.components]
        for name in dict.fromkeys([*listed, *(enrolment.component for enrolment in enrolments)]):
            component = self._catalogue.find(name)
            enrolled = find_enrolled_scopes(self._inventory.machines, name, enrolments)
            for machine in self._inventory.machines:
                if component is not None and machine.os is not component.family:
                    continue
                is_enrolled = machine.name in enrolled
                if is_enrolled:
                    self.enrolled[machine.name] = (*self.enrolled.get(machine.name, ()), name)
                if component is not None and (is_enrolled or asks_all or name == requested):
                    self._asked[machine.name] = (*self._asked.get(machine.name, ()), component)

    def list_components(self, machine: Machine) -> tuple[Component, ...]:
        """Return the components that a machine is asked for: enrolled ones, and that of the run; or all."""
        return self._asked.get(machine.name, ())

    def find_order(self, name: str, wanted: str) -> ComponentOrder:
        """Return what a run upgrades, with what is known of it. See ComponentOrderFinder."""
        component = require_component(self._catalogue, name)
        knowledge = read_knowledge(self._database, self._catalogue)
        held_back = find_held_back(knowledge, component, self._inventory, self._clock.now())
        return ComponentOrder(component, wanted, tuple(knowledge.tries.get(name, ())), held_back)
