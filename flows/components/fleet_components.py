"""The components of a process that runs: which ones a machine is asked for, and what a run upgrades."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flows.components.component_file import Catalogue, load_catalogue
from flows.components.overview import ComponentKnowledge, find_enrolled_scopes, find_held_back
from inventory.errors import InvalidFiles, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine
from tasks.domain.components import Component, ComponentOrder, ComponentTry, InstalledComponent
from tasks.domain.errors import RequestError, SealBroken, SealKeyMissing
from tasks.domain.protocols.clock import Clock
from tasks.records.components import SqlComponents
from tasks.records.queries.machines import read_installed_components, read_machine_states
from tasks.records.sql_records import SqlRecords
from tasks.rules.components.kept_versions import add_kept_versions
from tasks.rules.components.versions import find_listed_version

logger = logging.getLogger(__name__)


def read_knowledge(records: SqlRecords, catalogue: Catalogue) -> ComponentKnowledge:
    """Return what the records know of the components of a file, with the versions that only journals still have.

    Raises:
        RecordsError: they can't be read.
    """
    if not catalogue.components:
        return ComponentKnowledge(catalogue)
    components = SqlComponents(records.database)
    states, installed = read_machine_states(records.database), read_installed_components(records.database)
    tries = {component.name: components.read_tries(component.name) for component in catalogue.components}
    kept = tuple(
        _add_kept_versions(records, component, installed.values(), tries[component.name])
        for component in catalogue.components
    )
    return ComponentKnowledge(
        replace(catalogue, components=kept),
        components.read_enrolments(),
        installed,
        {name: state.answered_at for name, state in states.items() if state.answered_at is not None},
        tries,
        components.read_changing(),
    )


def _add_kept_versions(
    records: SqlRecords,
    component: Component,
    told: Iterable[Mapping[str, InstalledComponent]],
    tries: Sequence[ComponentTry],
) -> Component:
    """Add versions that machines have or had, and that the file has no more. Only these are looked for in journals."""
    known = {of_machine[component.name].version for of_machine in told if component.name in of_machine}
    known |= {attempt.version_before for attempt in tries} | {attempt.version for attempt in tries}
    missing = {text for text in known if text and find_listed_version(component.versions, text) is None}
    for run_id in dict.fromkeys(attempt.run_id for attempt in reversed(tries)) if missing else ():
        try:
            component = add_kept_versions(component, records.read_entries(run_id, ""), missing)
        except (SealBroken, SealKeyMissing) as error:
            logger.warning("the versions of %s in run %s do not count: %s", component.name, run_id, error.message)
        missing = {text for text in missing if find_listed_version(component.versions, text) is None}
        if not missing:
            break
    return component


def explain_withdrawal(load: Callable[[], Catalogue], name: str, version: str) -> str:
    """Read a file again. Return why a version of a component goes to no further machine, or ""."""
    try:
        component = load().find(name)
    except (InvalidFiles, InventoryError) as error:
        return f"is not known to be good: {str(error).splitlines()[0]}"
    listed = find_listed_version(component.versions, version) if component is not None else None
    if listed is None:
        return "is no longer in the file"
    return f"was withdrawn: {listed.withdrawn}" if listed.withdrawn else ""


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

    The file is read before anything begins: a run that upgrades no component goes on without it if it is not valid, and
    says so. A run that replaces OS disks does not: what is on them would be lost. ``find_withdrawal`` reads it again.

    Args:
        requested: the component that the run upgrades, or "".
        replaces_disks: whether the run gives machines new OS disks. Then they are asked for all components.

    Attributes:
        enrolled: by machine, the components that are enrolled there, also those that the file does not have any more.
    """

    def __init__(
        self,
        records: SqlRecords,
        inventory: Inventory,
        path: Path | None,
        clock: Clock,
        say: Callable[[str], None],
        requested: str = "",
        *,
        replaces_disks: bool = False,
    ) -> None:
        self._records, self._inventory, self._clock = records, inventory, clock
        self.find_withdrawal = partial(explain_withdrawal, lambda: load_catalogue(path))
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
        enrolments = SqlComponents(self._records.database).read_enrolments()
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
        knowledge = read_knowledge(self._records, self._catalogue)
        component = require_component(knowledge.catalogue, name)
        held_back = find_held_back(knowledge, component, self._inventory, self._clock.now())
        return ComponentOrder(component, wanted, tuple(knowledge.tries.get(name, ())), held_back)
