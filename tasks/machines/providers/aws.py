"""Instances of Amazon EC2. Snapshots and kept disks are those of EBS, with tags that name our orders.

Root volumes are replaced by EC2's own task, which keeps the instance, its addresses and its other volumes.
It was never run on AWS: moto plays EC2 in the tests, and recorded answers play the task, which moto does not have.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from inventory.machine import Machine
from inventory.machine_providers import ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    KeptDisk,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.ec2 import Ec2, Item, build_tags, list_attached, open_client, read_tags
from tasks.machines.providers.polling import poll, read_secret, wait_until
from tasks.machines.providers.registry import ProviderPorts
from tasks.machines.providers.texts import parse_consistency

MACHINE_TAG: Final = "fleetpatch:machine"
SNAPSHOT_TAG: Final = "fleetpatch:snapshot"
"""On a snapshot: the id of the order that took it."""
CONSISTENCY_TAG: Final = "fleetpatch:consistency"
KEPT_TAG: Final = "fleetpatch:kept"
"""On a volume: the id of the order that replaced it; "": it was taken back, and nobody keeps it."""
MADE_TAG: Final = "fleetpatch:made"
"""On a volume, and on the task that makes it: the id of the order."""
IMAGE_TAG: Final = "fleetpatch:image"
GROUP_TAG: Final = "aws:autoscaling:groupName"

_POWER: Final = {"running": PowerState.RUNNING, "stopped": PowerState.STOPPED}
_EXISTS: Final = frozenset({"available", "in-use"})
_UNFINISHED: Final = frozenset({"pending", "in-progress", "failing", "failing-detached"})
_SURVIVES_IN_GROUP: Final = frozenset(
    {ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT, ProviderAct.DELETE_OS_DISK, ProviderAct.START}
)
"""All that a member of an Auto Scaling group survives: the group replaces one that is away."""


class AwsProvider:
    """The MachineProvider of one instance."""

    kind = "aws"

    def __init__(self, ec2: Ec2, clock: Clock) -> None:
        self._ec2, self._id, self._clock = ec2, ec2.instance_id, clock
        self._acts: Mapping[ProviderAct, Callable[[ProviderOrder, Item, Deadline], str]] = {
            ProviderAct.TAKE_SNAPSHOT: self._take_snapshot,
            ProviderAct.REVERT: self._revert,
            ProviderAct.DELETE_SNAPSHOT: self._delete_snapshot,
            ProviderAct.REPLACE_OS_DISK: self._replace_os_disk,
            ProviderAct.RESTORE_OS_DISK: self._restore_os_disk,
            ProviderAct.DELETE_OS_DISK: self._delete_os_disk,
            ProviderAct.START: lambda _order, _instance, deadline: self._start(deadline),
            ProviderAct.STOP: lambda _order, _instance, deadline: self._stop(deadline),
            ProviderAct.POWER_OFF: lambda _order, _instance, deadline: self._stop(deadline, force=True),
        }
        self.acts = frozenset(self._acts)

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:  # noqa: ARG002 - each call has a limit of its own
        """Return the instance, its volumes, and the complete snapshots of its OS disk."""
        instance = self._ec2.read_instance()
        attached = list_attached(instance)
        volumes = self._list_our_volumes()
        images = {volume_id: read_tags(volume).get(IMAGE_TAG, "") for volume_id, volume in volumes.items()}
        root_device = instance.get("RootDeviceName")
        role = DiskRole.DATA if root_device else DiskRole.UNKNOWN
        disks = tuple(
            ProvidedDisk(device, DiskRole.OS if device == root_device else role, volume_id, images.get(volume_id, ""))
            for device, volume_id in attached.items()
        )
        kept = tuple(
            KeptDisk(read_tags(volume)[KEPT_TAG], volume_id, images[volume_id])
            for volume_id, volume in volumes.items()
            if read_tags(volume).get(KEPT_TAG) and volume_id not in attached.values() and volume.get("State") in _EXISTS
        )
        snapshots = self._ec2.list_snapshots({f"tag:{MACHINE_TAG}": self._id})
        if root_device in attached:  # those of others
            snapshots |= self._ec2.list_snapshots({"volume-id": attached[root_device]})
        complete = tuple(
            _build_snapshot(item, root_device) for item in snapshots.values() if item.get("State") == "completed"
        )
        power = _POWER.get(instance["State"]["Name"], PowerState.UNKNOWN)
        return ProvidedMachine(self._id, power, disks, complete, kept)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        if order.act not in self._acts:
            raise ProviderError(f"aws can't be asked to {order.act}")
        instance = self._ec2.read_instance()
        group = read_tags(instance).get(GROUP_TAG)
        if group and order.act not in _SURVIVES_IN_GROUP:
            message = f"{self._id} belongs to the Auto Scaling group {group}, which replaces a member that is away"
            raise ProviderError(message, hint="Give the group a new image, or detach the instance from it first.")
        return self._acts[order.act](order, instance, deadline)

    # ---------------------------------------------------------------- snapshots

    def _take_snapshot(self, order: ProviderOrder, instance: Item, deadline: Deadline) -> str:
        usable = [item for item in self._find_snapshots(order.id) if item["State"] != "error"]
        states = {PowerState.RUNNING: Consistency.CRASH, PowerState.STOPPED: Consistency.OFFLINE}
        consistency = states.get(_POWER.get(instance["State"]["Name"], PowerState.UNKNOWN), Consistency.UNKNOWN)
        if not usable:  # EC2 has no token that makes this order idempotent, so it is asked for the tag first
            tags = {MACHINE_TAG: self._id, SNAPSHOT_TAG: order.id, CONSISTENCY_TAG: str(consistency)}
            root = self._require_root(instance)
            tags |= {key: value for key, value in self._read_volume_tags(root).items() if key == IMAGE_TAG}
            usable = [
                self._ec2.ask("create_snapshot", {"VolumeId": root, "TagSpecifications": build_tags("snapshot", tags)})
            ]
        snapshot_id = usable[0]["SnapshotId"]

        def find_end() -> str | None:
            items = self._ec2.list_snapshots({"snapshot-id": snapshot_id})
            state = items[snapshot_id]["State"] if snapshot_id in items else "pending"  # not visible yet
            return None if state == "pending" else str(state)

        state = poll(self._clock, deadline, find_end, message=f"the snapshot {snapshot_id} is not complete yet")
        if state != "completed":
            raise ProviderError(f"the snapshot {snapshot_id} ended as {state!r}")
        return "aws freezes no file systems" if order.is_quiesced and consistency is Consistency.CRASH else ""

    def _revert(self, order: ProviderOrder, instance: Item, deadline: Deadline) -> str:
        if order.with_data_disks:
            raise ProviderError("aws has no snapshots of data disks here", hint="Revert the OS disk alone.")
        source = next((item for item in self._find_snapshots(order.id) if item.get("State") == "completed"), None)
        if source is None:
            raise ProviderError(f"{self._id} has no complete snapshot {order.id!r}")
        root = self._require_root(instance)
        task = self._find_task(f"revert {order.id}")
        if task is None or task["TaskState"] not in _UNFINISHED:
            task = self._create_task(
                f"revert {order.id}", root, {"SnapshotId": source["SnapshotId"], "DeleteReplacedRootVolume": True}
            )
        self._finish_task(task, deadline)
        root = self._require_root(self._ec2.read_instance())
        self._ec2.tag(root, {MACHINE_TAG: self._id, IMAGE_TAG: read_tags(source).get(IMAGE_TAG, "")})
        return ""

    def _delete_snapshot(self, order: ProviderOrder, _instance: Item, _deadline: Deadline) -> str:
        if order.id.startswith("snap-"):
            raise ProviderError(f"{order.id} was not taken by fleetpatch", hint="Delete it at AWS.")
        for item in self._find_snapshots(order.id):
            self._ec2.ask("delete_snapshot", {"SnapshotId": item["SnapshotId"]}, "InvalidSnapshot.NotFound")
        return ""

    # ---------------------------------------------------------------- OS disks

    def _replace_os_disk(self, order: ProviderOrder, instance: Item, deadline: Deadline) -> str:
        if order.image is None or not order.image.reference.startswith("ami-"):
            raise ProviderError(
                "aws makes OS disks of AMIs", hint="Give the version in images.yaml a reference such as ami-0abc."
            )
        if order.user_data:
            hint = "Set the user data of the instance at AWS instead. The new disk reads it."
            raise ProviderError("aws can't give user data to a new OS disk", hint=hint)
        root = self._require_root(instance)
        tags = self._read_volume_tags(root)
        if tags.get(MADE_TAG) == order.id:
            return ""
        task = self._find_task(order.id)
        state = "" if task is None else task["TaskState"]
        is_past = tags.get(KEPT_TAG) == order.id or task != self._find_task()  # taken back, or replaced since
        if task is None or state == "failed" or (state == "succeeded" and is_past):
            made_of: Item = {"ImageId": order.image.reference, "DeleteReplacedRootVolume": False}
            self._ec2.tag(root, {KEPT_TAG: order.id, MACHINE_TAG: self._id})  # before, so that the disk is never lost
            task = self._create_task(order.id, root, made_of)
        self._finish_task(task, deadline)
        made = {MADE_TAG: order.id, MACHINE_TAG: self._id, IMAGE_TAG: order.image.version}
        self._ec2.tag(self._require_root(self._ec2.read_instance()), made)
        return ""

    def _restore_os_disk(self, order: ProviderOrder, instance: Item, deadline: Deadline) -> str:
        task = self._find_task(order.id)
        if task is not None and task["TaskState"] in _UNFINISHED:
            self._wait_for_task(task, deadline)
            instance = self._ec2.read_instance()
        kept = next(iter(self._list_our_volumes(KEPT_TAG, order.id)), None)
        if kept is None:
            raise ProviderError(f"{self._id} has no kept OS disk of the order {order.id!r}")
        device = instance.get("RootDeviceName") or ""
        root = list_attached(instance).get(device)
        if root != kept:
            maker = order.id if root is None else self._read_volume_tags(root).get(MADE_TAG, order.id)
            if maker != order.id:
                raise ProviderError(
                    f"the OS disk of {self._id} is of a later order: {maker}", hint="Take back that order first."
                )
            self._stop(deadline)
            if root is not None:
                self._ec2.tag(root, {MADE_TAG: order.id, MACHINE_TAG: self._id, KEPT_TAG: ""})
                self._ec2.ask("detach_volume", {"VolumeId": root, "InstanceId": self._id})
                self._wait_for_volume(root, "available", deadline)
            self._ec2.ask("attach_volume", {"VolumeId": kept, "InstanceId": self._id, "Device": device})
            self._wait_for_volume(kept, "in-use", deadline)
        self._start(deadline)
        self._delete_detached(MADE_TAG, order.id)
        return ""

    def _delete_os_disk(self, order: ProviderOrder, _instance: Item, _deadline: Deadline) -> str:
        self._delete_detached(KEPT_TAG, order.id)
        self._delete_detached(MADE_TAG, order.id)  # taken back, and its deletion then failed
        return ""

    def _delete_detached(self, tag: str, order_id: str) -> None:
        """Delete volumes of an order that are not attached, but for those that a later order has replaced and keeps."""
        for volume_id, volume in self._list_our_volumes(tag, order_id).items():
            is_kept = read_tags(volume).get(KEPT_TAG, "") not in {"", order_id}
            if not is_kept and not volume.get("Attachments") and volume.get("State") == "available":
                self._ec2.ask("delete_volume", {"VolumeId": volume_id}, "InvalidVolume.NotFound")

    # ---------------------------------------------------------------- EC2's task

    def _create_task(self, order_id: str, root: str, values: Item) -> Item:
        # An order that was repeated is one task. One after a success has another root volume, and is a new task.
        failures = sum(read_tags(task).get(MADE_TAG) == order_id for task in self._ec2.list_tasks())
        token = hashlib.sha256(f"{self._id} {root} {order_id} {failures}".encode()).hexdigest()
        tags = build_tags("replace-root-volume-task", {MADE_TAG: order_id, MACHINE_TAG: self._id})
        asked = {"InstanceId": self._id, "ClientToken": token, "TagSpecifications": tags}
        answer = self._ec2.ask("create_replace_root_volume_task", asked | values)
        return dict(answer["ReplaceRootVolumeTask"])

    def _find_task(self, order_id: str = "") -> Item | None:
        """Return the newest task, of one order or of all."""
        tasks = [task for task in self._ec2.list_tasks() if order_id in {"", read_tags(task).get(MADE_TAG)}]
        return max(tasks, key=lambda task: str(task.get("StartTime", "")), default=None)

    def _wait_for_task(self, task: Item, deadline: Deadline) -> str:
        task_id = task["ReplaceRootVolumeTaskId"]

        def find_end() -> str | None:
            states = [
                item["TaskState"] for item in self._ec2.list_tasks() if item["ReplaceRootVolumeTaskId"] == task_id
            ]
            return str(states[0]) if states and states[0] not in _UNFINISHED else None

        return poll(self._clock, deadline, find_end, message=f"the replacement {task_id} of {self._id} has not ended")

    def _finish_task(self, task: Item, deadline: Deadline) -> None:
        state = self._wait_for_task(task, deadline)
        if state == "failed-detached":
            message = (
                f"{self._id} HAS NO ROOT VOLUME: its replacement {task['ReplaceRootVolumeTaskId']} ended as {state}"
            )
            raise ProviderError(message, hint="Put the former disk back: it is among the kept disks of the machine.")
        if state != "succeeded":
            raise ProviderError(f"the replacement of the root volume of {self._id} ended as {state}")

    # ---------------------------------------------------------------- power

    def _start(self, deadline: Deadline) -> str:
        self._ec2.ask("start_instances", {"InstanceIds": [self._id]})
        self._wait_for_power("running", deadline)
        return ""

    def _stop(self, deadline: Deadline, *, force: bool = False) -> str:
        self._ec2.ask("stop_instances", {"InstanceIds": [self._id], "Force": force})
        self._wait_for_power("stopped", deadline)
        return ""

    def _wait_for_power(self, wanted: str, deadline: Deadline) -> None:
        is_wanted = lambda: self._ec2.read_instance()["State"]["Name"] == wanted  # noqa: E731
        wait_until(self._clock, deadline, is_wanted, message=f"{self._id} is not {wanted} yet")

    # ---------------------------------------------------------------- what EC2 says

    def _find_snapshots(self, order_id: str) -> list[Item]:
        filters = {f"tag:{MACHINE_TAG}": self._id, f"tag:{SNAPSHOT_TAG}": order_id}
        return list(self._ec2.list_snapshots(filters).values())

    def _list_our_volumes(self, tag: str = "", order_id: str = "") -> dict[str, Item]:
        return self._ec2.list_volumes({f"tag:{MACHINE_TAG}": self._id} | ({f"tag:{tag}": order_id} if tag else {}))

    def _read_volume_tags(self, volume_id: str) -> dict[str, str]:
        return read_tags(self._ec2.list_volumes({"volume-id": volume_id}).get(volume_id, {}))

    def _wait_for_volume(self, volume_id: str, wanted: str, deadline: Deadline) -> None:
        def is_wanted() -> bool:
            volume = self._ec2.list_volumes({"volume-id": volume_id}).get(volume_id, {})
            return volume.get("State") == wanted

        wait_until(self._clock, deadline, is_wanted, message=f"the volume {volume_id} is not {wanted} yet")

    def _require_root(self, instance: Item) -> str:
        root = list_attached(instance).get(instance.get("RootDeviceName", ""))
        if root is None:
            raise ProviderError(f"{self._id} has no root volume", hint="Put a kept OS disk back, or attach one at AWS.")
        return root


def _build_snapshot(item: Item, root_device: str | None) -> Snapshot:
    tags = read_tags(item)
    consistency = parse_consistency(tags.get(CONSISTENCY_TAG, ""))
    disks = (root_device,) if root_device else ()
    snapshot_id = tags.get(SNAPSHOT_TAG) or str(item["SnapshotId"])
    return Snapshot(snapshot_id, item.get("StartTime"), disks, consistency)


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
