"""Instances of Amazon EC2: snapshots of their root volumes, with tags that name our orders.

Experimental: it was never run on AWS. Answers that AWS gave to others, and moto, play it in the tests.
"""

from collections.abc import Mapping
from typing import Final

from inventory.machine import Machine
from inventory.machine_providers import ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    HardwareIdentity,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.ec2 import Ec2, Item, open_client, read_tags
from tasks.machines.providers.polling import SNAPSHOT_ACTS, poll, read_secret
from tasks.machines.providers.registry import ProviderPorts
from tasks.machines.providers.texts import parse_consistency

MACHINE_TAG: Final = "fleetpatch:machine"
SNAPSHOT_TAG: Final = "fleetpatch:snapshot"
"""On a snapshot: the id of the order that took it."""
CONSISTENCY_TAG: Final = "fleetpatch:consistency"

_POWER: Final = {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED}


class AwsProvider:
    """The MachineProvider of one instance."""

    kind, acts = "aws", SNAPSHOT_ACTS

    def __init__(self, ec2: Ec2, clock: Clock) -> None:
        self._ec2, self._id, self._clock = ec2, ec2.instance_id, clock

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:  # noqa: ARG002 - each call has a limit of its own
        """Return the instance, its volumes, and the complete snapshots of its root volume."""
        instance = self._ec2.read_instance()
        volumes, root_device = _list_volumes(instance), str(instance.get("RootDeviceName", ""))
        role = DiskRole.DATA if root_device else DiskRole.UNKNOWN
        disks = tuple(
            ProvidedDisk(device, DiskRole.OS if device == root_device else role, volume_id)
            for device, volume_id in volumes.items()
        )
        snapshots = self._ec2.list_snapshots({f"tag:{MACHINE_TAG}": self._id})
        if root_device in volumes:  # those of others
            snapshots |= self._ec2.list_snapshots({"volume-id": volumes[root_device]})
        complete = tuple(
            _build_snapshot(item, root_device) for item in snapshots.values() if item.get("State") == "completed"
        )
        cards = instance.get("NetworkInterfaces", [])
        identity = HardwareIdentity(instance_id=self._id, macs=tuple(card["MacAddress"].lower() for card in cards))
        return ProvidedMachine(self._id, _read_power(instance), disks, complete, identity=identity)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act is ProviderAct.TAKE_SNAPSHOT:
            return self._take_snapshot(order, deadline)
        if order.act is not ProviderAct.DELETE_SNAPSHOT:
            raise ProviderError(f"aws can't be asked to {order.act}")
        if order.id.startswith("snap-"):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at AWS.")
        for item in self._find_snapshots(order.id):
            self._ec2.ask("delete_snapshot", {"SnapshotId": item["SnapshotId"]}, "InvalidSnapshot.NotFound")
        return ""

    def _take_snapshot(self, order: ProviderOrder, deadline: Deadline) -> str:
        instance = self._ec2.read_instance()
        usable = [item for item in self._find_snapshots(order.id) if item["State"] != "error"]
        states = {PowerState.RUNNING: Consistency.CRASH, PowerState.STOPPED: Consistency.OFFLINE}
        consistency = states.get(_read_power(instance), Consistency.UNKNOWN)
        if not usable:  # EC2 has no token that makes this order idempotent, so it is asked for the tag first
            tags = {MACHINE_TAG: self._id, SNAPSHOT_TAG: order.id, CONSISTENCY_TAG: str(consistency)}
            root = _list_volumes(instance).get(instance.get("RootDeviceName", ""))
            if root is None:
                raise ProviderError(f"{self._id} has no root volume", hint="Attach one at AWS.")
            marks = {"ResourceType": "snapshot", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}
            usable = [self._ec2.ask("create_snapshot", {"VolumeId": root, "TagSpecifications": [marks]})]
        snapshot_id = usable[0]["SnapshotId"]

        def find_end() -> str | None:
            items = self._ec2.list_snapshots({"snapshot-id": snapshot_id})
            state = items[snapshot_id]["State"] if snapshot_id in items else "pending"  # not visible yet
            return None if state == "pending" else str(state)

        state = poll(self._clock, deadline, find_end, message=f"the snapshot {snapshot_id} is not complete yet")
        if state != "completed":
            raise ProviderError(f"the snapshot {snapshot_id} ended as {state!r}")
        return "aws freezes no file systems" if order.is_quiesced and consistency is Consistency.CRASH else ""

    def _find_snapshots(self, order_id: str) -> list[Item]:
        filters = {f"tag:{MACHINE_TAG}": self._id, f"tag:{SNAPSHOT_TAG}": order_id}
        return list(self._ec2.list_snapshots(filters).values())


def _read_power(instance: Item) -> PowerState:
    return _POWER.get(instance["State"]["Name"], PowerState.UNKNOWN)


def _list_volumes(instance: Item) -> Mapping[str, str]:
    """Return device → volume id."""
    mappings = instance.get("BlockDeviceMappings", [])
    return {mapping["DeviceName"]: mapping["Ebs"]["VolumeId"] for mapping in mappings if "Ebs" in mapping}


def _build_snapshot(item: Item, root_device: str) -> Snapshot:
    tags = read_tags(item)
    disks = (root_device,) if root_device else ()
    snapshot_id = tags.get(SNAPSHOT_TAG) or str(item["SnapshotId"])
    return Snapshot(snapshot_id, item.get("StartTime"), disks, parse_consistency(tags.get(CONSISTENCY_TAG, "")))


def open_aws(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> AwsProvider:
    """Return the provider of an instance.

    Raises:
        ProviderError: the inventory names no instance, or the login is not complete.
    """
    instance_id = find_provider_machine_id(machine)
    if not instance_id.startswith("i-"):
        hint = f"Write `provider: {settings.name}/i-…` in the inventory."
        raise ProviderError(f"{machine.name}: {instance_id!r} is not the id of an instance of EC2", hint=hint)
    if bool(settings.user) != bool(settings.credential):
        hint = "Give both, or none: then the login of this controller is used (its role, its profile)."
        raise ProviderError(f"{settings.name}: `user` and `credential` belong together", hint=hint)
    secret = read_secret(settings, ports) if settings.credential else None
    client = open_client(settings.region, settings.user, secret)
    return AwsProvider(Ec2(client, instance_id), ports.clock)
