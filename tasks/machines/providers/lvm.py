"""The provider of a machine that is LVM on the machine itself: snapshots of the volumes with its operating system.

The script lvm_machine.sh does the work, and says what marks it leaves. A revert merges the snapshot into its origin and
uses it up. The merge begins with the next boot, so a revert reboots the machine and waits until it answers again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import Consistency, DiskRole, PowerState, ProvidedDisk, ProvidedMachine, Snapshot
from tasks.machines.providers.own_disks import OwnDisksProvider
from tasks.machines.providers.registry import ProviderPorts

_MARK: Final = "fleetpatch."


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume, as lvs shows it."""

    group: str
    name: str
    attributes: str  # its ``lv_attr``
    size: int  # in bytes
    origin: str  # the volume of which it is a snapshot, or ""
    percent: float | None  # how much of a snapshot is used; None: it is none, or that is not known
    marks: Mapping[str, str]  # its tags of fleetpatch, without that prefix

    @property
    def id(self) -> str:
        """Its name with that of its group."""
        return f"{self.group}/{self.name}"

    @property
    def is_snapshot(self) -> bool:
        """It keeps what has changed of another one. One that is being merged has a large S."""
        return self.attributes[:1] in {"s", "S"}

    @property
    def used_bytes(self) -> int | None:
        """How much of a snapshot is used; None: not known."""
        return None if self.percent is None else round(self.size * self.percent / 100)

    @property
    def fault(self) -> str:
        """Why nothing can be put back by a snapshot, or "". To one that is being merged, the same order goes on."""
        is_invalid = self.attributes[4:5] in {"I", "S", "m", "M"}
        return f"{self.id} is overfull: more was written since than it has room for" if is_invalid else ""


class LvmProvider(OwnDisksProvider):
    """A machine whose operating system is on logical volumes. See MachineProvider."""

    kind = ProviderKind.LVM.value
    script = "lvm_machine"

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        result = self._run("read", "", deadline)
        volumes = [_parse_volume(str(record["row"])) for record in result.find_records("volume")]
        system = [str(record["name"]) for record in result.find_records("system")]
        unfit = result.find_records("unfit")
        if unfit and not system:
            raise ProviderError(f"{self._id}: {unfit[0]['why']}", hint=str(unfit[0]["hint"]))
        disks = [
            ProvidedDisk(volume.id, DiskRole.OS if volume.id in system else DiskRole.DATA, f"/dev/{volume.id}")
            for volume in volumes
            if not volume.is_snapshot and "snapshot" not in volume.marks
        ]
        foreign = tuple(
            Snapshot(
                volume.id, None, (f"{volume.group}/{volume.origin}",), used_bytes=volume.used_bytes, fault=volume.fault
            )
            for volume in volumes
            if volume.origin and "snapshot" not in volume.marks
        )
        snapshots = (*_gather_snapshots(volumes, system), *foreign)
        obstacle = str(unfit[0]["why"]) if unfit else ""
        return ProvidedMachine(self._id, PowerState.RUNNING, tuple(disks), snapshots, snapshot_obstacle=obstacle)


def open_lvm(_settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> LvmProvider:
    """Return the provider of a machine."""
    return LvmProvider.open(machine, ports)


def _parse_volume(row: str) -> Volume:
    group, name, attributes, _layout, size, origin, percent, _path, tags = row.split("|")
    marks = (tag.removeprefix(_MARK).partition("=") for tag in tags.split(",") if tag.startswith(_MARK))
    used = float(percent) if percent else None
    return Volume(group, name, attributes, int(size), origin, used, {key: value for key, _, value in marks})


def _gather_snapshots(volumes: Sequence[Volume], system: Sequence[str]) -> tuple[Snapshot, ...]:
    """Return the snapshots of fleetpatch. One that is not whole has no disks."""
    ids = dict.fromkeys(volume.marks["snapshot"] for volume in volumes if "snapshot" in volume.marks)
    return tuple(
        _gather(name, [volume for volume in volumes if volume.marks.get("snapshot") == name], system) for name in ids
    )


def _gather(snapshot_id: str, volumes: Sequence[Volume], system: Sequence[str]) -> Snapshot:
    parts = [volume for volume in volumes if volume.is_snapshot]
    taken = next((volume.marks["taken"] for volume in volumes if "taken" in volume.marks), "")
    used = [part.used_bytes for part in parts]
    origins = [f"{part.group}/{part.origin}" for part in parts]
    fault = "; ".join(filter(None, (part.fault for part in parts)))
    if not taken or not set(system) <= set(origins):
        fault = fault or "it is not whole: an order was interrupted"
    return Snapshot(
        snapshot_id,
        datetime.fromtimestamp(int(taken), UTC) if taken else None,
        tuple(origins) if taken else (),
        # each volume is frozen while its own snapshot is taken
        Consistency.FILE_SYSTEM if len(parts) == 1 else Consistency.CRASH,
        sum(size for size in used if size is not None) if None not in used else None,
        fault,
    )
