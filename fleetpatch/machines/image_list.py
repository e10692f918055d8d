"""The groups of images for the page and the API: their machines and their last upgrades, from file and records."""

from datetime import datetime

from fleetpatch.machines.snapshot import FleetSnapshot
from flows.components.overview import ComponentKnowledge, build_component_rows
from flows.images.fleet_images import read_image_knowledge
from flows.images.history import read_attempts
from flows.images.image_file import ImageGroups, load_image_groups
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from inventory.machine import Inventory
from tasks.domain.errors import RequestError
from tasks.domain.rows.components import ComponentRow
from tasks.domain.rows.images import ImageUpgradeRow
from tasks.records.left_disks import LeftDisk, find_left_disks
from tasks.records.sql_records import SqlRecords


@dataclass(frozen=True, slots=True)
class ImagesView:
    """The groups of the fleet."""

    groups: ImageGroups
    rows: tuple[ComponentRow, ...] = ()  # their machines
    upgrades: tuple[ImageUpgradeRow, ...] = ()  # the last ones of all groups, by group, the newest first
    left: tuple[LeftDisk, ...] = ()  # OS disks of before of machines that failed, the oldest first
    problems: tuple[str, ...] = ()  # why something is not known, in words


def read_fleet_images(
    snapshot: FleetSnapshot, records: SqlRecords
) -> tuple[ComponentKnowledge, ImageGroups, Inventory]:
    """Return what is known of the groups, the groups, and the inventory, for an act.

    Raises:
        InvalidImages: the file has faults.
        RecordsError: the records can't be read.
        RequestError: there is no inventory here, or a machine is in two groups.
    """
    inventory = snapshot.inventory
    if inventory is None:
        raise RequestError("the inventory can't be read here", hint="The page of machines says why.")
    groups = load_image_groups(inventory.source)
    return read_image_knowledge(records, groups, inventory), groups, inventory


def read_images_view(snapshot: FleetSnapshot, records: SqlRecords, now: datetime) -> ImagesView:
    """Return the groups of the fleet. A file with faults is a problem of the page, and no error.

    Raises:
        RecordsError: the records can't be read.
    """
    if snapshot.inventory is None:
        return ImagesView(ImageGroups(), problems=tuple(snapshot.problems))
    try:
        knowledge, groups, inventory = read_fleet_images(snapshot, records)
    except (FleetpatchError, RequestError) as error:
        return ImagesView(ImageGroups(), problems=(*snapshot.problems, str(error)))
    rows = tuple(build_component_rows(knowledge, inventory.machines, now, members_only=True))
    upgrades = tuple(row for group in groups.groups for row in read_attempts(records, group.component.name, now))
    return ImagesView(groups, rows, upgrades, find_left_disks(records.database), tuple(snapshot.problems))
