"""What is known of the groups of images.yaml: which machines are theirs, and which versions these have."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from flows.components.fleet_components import explain_withdrawal, read_knowledge, require_component
from flows.components.overview import ComponentKnowledge
from flows.images.image_file import GroupForm, ImageGroup, ImageGroups, load_image_groups
from inventory.errors import EmptyScopeError, InvalidFiles, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.domain.components import Component, ComponentEnrolment, ComponentOrder
from tasks.domain.errors import RequestError
from tasks.domain.images import IMAGE_PREFIX
from tasks.records.sql_records import SqlRecords

_NO_TIME = datetime.fromtimestamp(0, UTC)


def select_members(group: ImageGroup | GroupForm, inventory: Inventory) -> tuple[Machine, ...]:
    """Return the machines of a group; none, if its scope selects none."""
    try:
        return tuple(Scope.parse(group.scope).select_machines(inventory))
    except EmptyScopeError:
        return ()


def require_group(groups: ImageGroups, name: str) -> ImageGroup:
    """Return a group of the file. Raise RequestError if there is none."""
    group = next((group for group in groups.groups if group.name == name), None)
    if group is not None:
        return group
    where = f"in {groups.path}" if groups.path is not None else "beside the inventory: images.yaml"
    names = [group.name for group in groups.groups]
    raise RequestError(
        f"there is no group {name!r} {where}", hint=f"{did_you_mean(name, names)}`fleetpatch images list` shows all."
    )


def require_one_group_each(groups: ImageGroups, inventory: Inventory) -> None:
    """Raise RequestError if a machine is in two groups: each would replace what the other has made."""
    seen: dict[str, str] = {}
    for group in groups.groups:
        for machine in select_members(group, inventory):
            if (other := seen.setdefault(machine.name, group.name)) != group.name:
                raise RequestError(
                    f"{machine.name} is a machine of two groups of images.yaml: {other} and {group.name}",
                    hint="Correct the `scope` of one of them.",
                )


def read_image_knowledge(records: SqlRecords, groups: ImageGroups, inventory: Inventory) -> ComponentKnowledge:
    """Return what the records know of the groups. One that is automatic is enrolled in its scope.

    Raise RecordsError, or RequestError if a machine is in two groups.
    """
    require_one_group_each(groups, inventory)
    enrolments = tuple(
        ComponentEnrolment(group.component.name, group.scope, "images.yaml", _NO_TIME)
        for group in groups.groups
        if group.is_automatic
    )
    return replace(read_knowledge(records, groups.catalogue), enrolments=enrolments)


class FleetImages:
    """The groups for the ports of one run, with the same methods as FleetComponents.

    A file that is not valid ends only the run of a group: others go on without it, and say so.

    Args:
        requested: the component of the group that the run upgrades, or "".
        enrolled: by machine, the components of components.yaml that are enrolled there.
    """

    def __init__(
        self,
        records: SqlRecords,
        inventory: Inventory,
        say: Callable[[str], None],
        requested: str,
        enrolled: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._records, self._inventory, self._enrolled = records, inventory, enrolled or {}
        self.find_withdrawal = partial(explain_withdrawal, lambda: load_image_groups(inventory.source).catalogue)
        try:
            self._groups = load_image_groups(inventory.source)
        except (InvalidFiles, InventoryError) as error:
            if requested:
                raise
            say(f"machines are not asked for the versions of their images: {error}")
            self._groups = ImageGroups()
        self._asked: dict[str, tuple[Component, ...]] = {}
        for group in self._groups.groups:
            for machine in select_members(group, inventory):
                if machine.provider and machine.os is group.component.family:
                    self._asked[machine.name] = (*self._asked.get(machine.name, ()), group.component)

    def list_components(self, machine: Machine) -> tuple[Component, ...]:
        """Return the groups of a machine whose disks somebody holds."""
        return self._asked.get(machine.name, ())

    def find_order(self, name: str, wanted: str) -> ComponentOrder:
        """Return what a run upgrades, with what is known of it. See ComponentOrderFinder."""
        require_group(self._groups, name.removeprefix(IMAGE_PREFIX))
        knowledge = read_image_knowledge(self._records, self._groups, self._inventory)
        component = require_component(knowledge.catalogue, name)
        return ComponentOrder(component, wanted, tuple(knowledge.tries.get(name, ())), enrolled=self._enrolled)
