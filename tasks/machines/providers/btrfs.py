"""The provider of a machine that is btrfs on the machine itself: snapshots of the subvolumes with its operating system.

The script btrfs_machine.sh does the work, and says where it keeps them. A revert gives the name of the subvolume to a
writable snapshot, and reboots the machine into it.
"""

from datetime import UTC, datetime

from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.provided_machines import Consistency, DiskRole, PowerState, ProvidedDisk, ProvidedMachine, Snapshot
from tasks.machines.providers.own_disks import OwnDisksProvider
from tasks.machines.providers.registry import ProviderPorts


class BtrfsProvider(OwnDisksProvider):
    """A machine whose operating system is on subvolumes. See MachineProvider."""

    kind = ProviderKind.BTRFS.value
    script = "btrfs_machine"

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        result = self._run("read", "", deadline)
        disks = [
            ProvidedDisk(str(record["name"]), role, str(record["place"]))
            for kind, role in (("system", DiskRole.OS), ("data", DiskRole.DATA))
            for record in result.find_records(kind)
        ]
        unfit = result.find_records("unfit")
        if unfit and not any(disk.role is DiskRole.OS for disk in disks):
            raise ProviderError(f"{self._id}: {unfit[0]['why']}", hint=str(unfit[0]["hint"]))
        ours = (_build_snapshot(record) for record in result.find_records("snapshot"))
        foreign = (Snapshot(str(record["name"]), None, ()) for record in result.find_records("foreign"))
        obstacle = str(unfit[0]["why"]) if unfit else ""
        return ProvidedMachine(
            self._id, PowerState.RUNNING, tuple(disks), (*ours, *foreign), snapshot_obstacle=obstacle
        )


def open_btrfs(_settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> BtrfsProvider:
    """Return the provider of a machine."""
    return BtrfsProvider.open(machine, ports)


def _build_snapshot(record: ScriptRecord) -> Snapshot:
    """Return a snapshot of fleetpatch. One that is not whole has no disks."""
    taken, parts = str(record["taken"]), str(record["parts"]).split()
    return Snapshot(
        str(record["id"]),
        datetime.fromtimestamp(int(taken), UTC) if taken else None,
        tuple(parts) if taken else (),
        # each subvolume has its own moment
        Consistency.FILE_SYSTEM if len(parts) == 1 else Consistency.CRASH,
        fault="" if taken and record["whole"] else "it is not whole: an order was interrupted",
    )
