"""Deletes the OS disks that upgrades of images have replaced, once their days are over."""

from collections.abc import Collection
from pathlib import Path

from flows.composition import open_ports
from flows.images.fleet_images import read_image_knowledge
from flows.images.image_file import load_image_groups
from flows.images.kept_disks import DiskCleaner, ExpiredDisk
from flows.ports.caller import Caller
from flows.request.read_requests import AssessRequest
from inventory.loader import find_inventory
from inventory.machine import Inventory
from inventory.named_files import IMAGES_FILE
from tasks.domain.images import KeptDiskState
from tasks.records.left_disks import find_left_disks
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.run_machines import find_machines_of_run


def clean_replaced_disks(
    inventory_path: Path | None, caller: Caller, given_up: Collection[str] = ()
) -> tuple[ExpiredDisk, ...]:
    """Delete replaced OS disks whose days are over, tell who follows, and return what became of each.

    A disk that is the way back of a machine that failed is only told, unless a person gives it up. The fleet is looked
    at only if there is a file of images, or a disk of before.

    Raises:
        FleetpatchError: the inventory, images or records are not usable, or a machine given up has no such disk.
    """
    path = find_inventory(inventory_path)
    with open_records(caller.records_url) as records:
        left = find_left_disks(records.database)
        if not (IMAGES_FILE.is_used(path) or left or given_up):
            return ()
        with open_ports(AssessRequest(scope="*", inventory=path), caller) as ports:
            knowledge = read_image_knowledge(records, load_image_groups(path), ports.inventory)
            cleaner = DiskCleaner(
                ports.inventory,
                ports.records,
                ports.open_provider,
                ports.clock,
                lambda machine: _find_unfinished_run(records, ports.inventory, machine),
            )
            disks = (*cleaner.settle_left(left, knowledge, given_up), *cleaner.delete_expired(knowledge))
    for disk in disks:
        words = "was deleted" if disk.state is KeptDiskState.DELETED else disk.problem
        caller.listener.on_message(f"{disk.machine}: the OS disk {disk.order_id}: {words}")
    return disks


def _find_unfinished_run(records: SqlRecords, inventory: Inventory, machine: str) -> str:
    """Return the id of a run without an end that may change the machine, or ""."""
    runs = (run for run in History(records).read_unfinished_runs() if run.may_change_machines)
    return next((run.id for run in runs if machine in find_machines_of_run(run, inventory)), "")
