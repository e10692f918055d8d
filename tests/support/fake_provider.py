"""A provider in memory: virtual machines with disks, and the faults that a test orders."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum

from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.machine_providers import find_provider_machine_id
from tasks.domain.errors import DisksTakenBack, ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    KeptDisk,
    Overlay,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
)


class ProviderFault(StrEnum):
    """What goes wrong with one order, or with all."""

    AWAY_BEFORE = "away before"  # nothing was done
    AWAY_AFTER = "away after"  # it was done, and the answer was lost
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class GivenOrder:
    """An order that reached the provider."""

    machine: str
    order: ProviderOrder


class FakeHypervisor:
    """Holds the machines. Providers of single machines work on it.

    Attributes:
        machines: by their id. A test may change them.
        orders: all that reached it, in their order, those that failed included.
        faults: what goes wrong with the next orders of an act, first in, first out.
        is_away: whether it answers nothing.
        put_back: the machines and orders whose kept disk is in use again.
        acts: what it can be asked to do.
        taken_back: the machines whose disks somebody has taken back.
        apply: called after an order was carried out, so that a test's machine follows.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self.machines: dict[str, ProvidedMachine] = {}
        self.contents: dict[str, str] = {}
        self.put_back: set[tuple[str, str]] = set()
        self.orders: list[GivenOrder] = []
        self.faults: dict[ProviderAct, list[ProviderFault]] = {}
        self.is_away = False
        self.taken_back: set[str] = set()
        self.acts = frozenset(ProviderAct) - {ProviderAct.REWRITE_SEED}
        self.apply: Callable[[str, ProviderOrder], None] = lambda _machine, _order: None

    def add_machine(self, machine_id: str, power: PowerState = PowerState.RUNNING) -> None:
        """Add a machine with an OS disk and a data disk. Their contents are texts that a test may change."""
        disks = (
            ProvidedDisk("vda", DiskRole.OS, f"{machine_id}-os"),
            ProvidedDisk("vdb", DiskRole.DATA, f"{machine_id}-data"),
        )
        self.machines[machine_id] = ProvidedMachine(machine_id, power, disks)
        self.contents |= {f"{machine_id}-os": "system", f"{machine_id}-data": "data"}

    def open(self, machine: Machine) -> MachineProvider | None:
        """Return the provider of a machine, as ``Ports.open_provider`` does."""
        return FakeProvider(self, find_provider_machine_id(machine)) if machine.provider else None

    def now(self) -> datetime:
        """Return the time of its clock."""
        return self._clock.now() if self._clock is not None else datetime.now(UTC)


class FakeProvider:
    """The provider of one machine."""

    kind = "fake"

    def __init__(self, hypervisor: FakeHypervisor, machine_id: str) -> None:
        self._hypervisor, self._id = hypervisor, machine_id

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """What it can be asked to do."""
        return self._hypervisor.acts

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        if self._hypervisor.is_away:
            raise ProviderUnavailable("the hypervisor does not answer")
        machine = self._hypervisor.machines.get(self._id)
        if machine is None:
            raise ProviderError(f"there is no machine {self._id!r}", hint="Correct `provider` in the inventory.")
        if self._id in self._hypervisor.taken_back:
            raise DisksTakenBack("somebody has taken back its disks", hint="The way back.")
        return machine

    def has_notes(self) -> bool:
        """Return whether anything can be taken back."""
        return self._id in self._hypervisor.taken_back

    def recorded_loss(self) -> str:
        """Return what was seen last."""
        return "somebody has taken back its disks\nThe way back." if self.has_notes() else ""

    def adopt(self, *, as_it_is: bool, deadline: Deadline) -> str:
        """Take a machine as it is."""
        if self.has_notes() and not as_it_is:
            self.read_machine(deadline=deadline)
        was_taken_back = self.has_notes()
        self._hypervisor.taken_back.discard(self._id)
        return "it stays as it is" if was_taken_back else ""

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out, or fail as the test has ordered."""
        hypervisor = self._hypervisor
        hypervisor.orders.append(GivenOrder(self._id, order))
        faults = hypervisor.faults.get(order.act, [])
        fault = faults.pop(0) if faults else None
        if fault is ProviderFault.AWAY_BEFORE:
            raise ProviderUnavailable("the hypervisor does not answer")
        machine = self.read_machine(deadline=deadline)
        if fault is ProviderFault.REFUSED or order.act not in hypervisor.acts:
            raise ProviderError(f"{order.act} was refused")
        after = _CARRY_OUT[order.act](hypervisor, machine, order)
        if after is not machine:
            hypervisor.machines[self._id] = after
            hypervisor.apply(self._id, order)
        if fault is ProviderFault.AWAY_AFTER:
            raise ProviderUnavailable("the hypervisor does not answer")
        return ""


def _take_snapshot(hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    if machine.find_snapshot(order.id) is not None:
        return machine
    runs = machine.power is PowerState.RUNNING
    frozen = Consistency.FILE_SYSTEM if order.is_quiesced else Consistency.CRASH
    for disk in machine.disks:
        hypervisor.contents[f"{machine.id}-{disk.id}@{order.id}"] = hypervisor.contents[disk.source]
    snapshot = Snapshot(
        order.id,
        hypervisor.now(),
        tuple(disk.id for disk in machine.disks),
        frozen if runs else Consistency.OFFLINE,
        4096,
    )
    return replace(machine, snapshots=(*machine.snapshots, snapshot))


def _revert(hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    if machine.find_snapshot(order.id) is None:
        raise ProviderError(f"{machine.id} has no snapshot {order.id!r}", hint="Take one.")
    for disk in machine.disks:
        if disk.role is DiskRole.OS or order.with_data_disks:
            hypervisor.contents[disk.source] = hypervisor.contents[f"{machine.id}-{disk.id}@{order.id}"]
    return replace(machine)


def _delete_snapshot(_hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    left = tuple(snapshot for snapshot in machine.snapshots if snapshot.id != order.id)
    return replace(machine, snapshots=left) if left != machine.snapshots else machine


def _replace_os_disk(hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    if order.image is None:
        raise ProviderError("no image was named")
    if machine.find_kept_disk(order.id) is not None:
        return machine
    (before,) = machine.os_disks
    new = ProvidedDisk(before.id, DiskRole.OS, f"{machine.id}-{order.id}", order.image.version, order.image.digest)
    hypervisor.contents[new.source] = f"image {order.image.version}"
    kept = KeptDisk(order.id, before.source, before.image)
    disks = tuple(new if disk is before else disk for disk in machine.disks)
    return replace(machine, disks=disks, kept_disks=(*machine.kept_disks, kept))


def _restore_os_disk(hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    kept = machine.find_kept_disk(order.id)
    if kept is None and (machine.id, order.id) in hypervisor.put_back:
        return machine
    if kept is None:
        raise ProviderError(f"{machine.id} has no kept disk {order.id!r}", hint="Replace its disk first.")
    hypervisor.put_back.add((machine.id, order.id))
    (now,) = machine.os_disks
    back = ProvidedDisk(now.id, DiskRole.OS, kept.source, kept.image)
    disks = tuple(back if disk is now else disk for disk in machine.disks)
    left = tuple(disk for disk in machine.kept_disks if disk is not kept)
    return replace(machine, disks=disks, kept_disks=left)


def _delete_os_disk(hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    hypervisor.put_back.discard((machine.id, order.id))
    left = tuple(disk for disk in machine.kept_disks if disk.id != order.id)
    return replace(machine, kept_disks=left) if left != machine.kept_disks else machine


def _start_overlay(_hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    if machine.overlay is not None and machine.overlay.id != order.id:
        raise ProviderError(f"{machine.id} has the overlay {machine.overlay.id!r} already")
    reaches = ("mirror.lan:80 10.0.0.5",)
    overlay = Overlay(order.id, PowerState.RUNNING, "127.0.0.1", 2222, "hypervisor", Consistency.CRASH, reaches)
    return replace(machine, overlay=overlay) if machine.overlay is None else machine


def _delete_overlay(_hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    is_there = machine.overlay is not None and machine.overlay.id == order.id
    return replace(machine, overlay=None) if is_there else machine


def _set_power(_hypervisor: FakeHypervisor, machine: ProvidedMachine, order: ProviderOrder) -> ProvidedMachine:
    power = PowerState.RUNNING if order.act is ProviderAct.START else PowerState.STOPPED
    return replace(machine, power=power) if machine.power is not power else machine


_CARRY_OUT: dict[ProviderAct, Callable[[FakeHypervisor, ProvidedMachine, ProviderOrder], ProvidedMachine]] = {
    ProviderAct.TAKE_SNAPSHOT: _take_snapshot,
    ProviderAct.REVERT: _revert,
    ProviderAct.DELETE_SNAPSHOT: _delete_snapshot,
    ProviderAct.REPLACE_OS_DISK: _replace_os_disk,
    ProviderAct.RESTORE_OS_DISK: _restore_os_disk,
    ProviderAct.DELETE_OS_DISK: _delete_os_disk,
    ProviderAct.REWRITE_SEED: lambda _hypervisor, machine, _order: machine,
    ProviderAct.START: _set_power,
    ProviderAct.STOP: _set_power,
    ProviderAct.POWER_OFF: _set_power,
    ProviderAct.START_OVERLAY: _start_overlay,
    ProviderAct.DELETE_OVERLAY: _delete_overlay,
}
