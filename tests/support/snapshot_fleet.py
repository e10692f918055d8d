"""A simulated fleet whose disks a hypervisor holds, so that a revert puts the packages of a machine back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flows.ports.ports import Ports
from tasks.domain.model import RunReport
from tasks.domain.provided_machines import ProvidedMachine, ProviderAct, ProviderOrder
from tasks.domain.rows.snapshots import SnapshotRow
from tests.support.fake_packages import FakePackage, Shelf
from tests.support.fake_provider import FakeHypervisor
from tests.support.fleet import SimFleet
from tests.support.sim_machine import SimMachine

REVERT_SECONDS = 40.0


class SnapshotFleet(SimFleet):
    """A fleet on one hypervisor.

    Attributes:
        comes_back: whether machines answer after a revert.
        save_snapshot: stores what runs tell of snapshots.
        locks: what the machine's lock was at each snapshot.
    """

    def __post_init__(self) -> None:
        """Give it a hypervisor."""
        super().__post_init__()
        self.hypervisor = FakeHypervisor(self.clock)
        self.hypervisor.apply = self._follow
        self.comes_back = True
        self.save_snapshot: Callable[[SnapshotRow], None] = lambda _row: None
        self._shelves: dict[str, Shelf] = {}
        self.locks: dict[str, tuple[tuple[str, str, float] | None, str]] = {}

    def add(
        self, name: str, packages: Sequence[FakePackage], *, skew_seconds: float = 0.0, **described: Any
    ) -> SimMachine:
        """Add a machine that the hypervisor has."""
        self.hypervisor.add_machine(name)
        return super().add(name, packages, skew_seconds=skew_seconds, **{"provider": f"hv/{name}", **described})

    def ports(self) -> Ports:
        """Return the way out of a run."""
        ports = super().ports()
        return replace(ports, open_provider=self.hypervisor.open, save_snapshot=self.save_snapshot)

    def patch_with_snapshot(self, *masks: str, **snapshot: Any) -> RunReport:
        """Patch it with a snapshot of each machine."""
        return self.patch(*masks, snapshot={"take": "before", **snapshot})

    def find_acts(self, machine: str, act: ProviderAct) -> list[ProviderOrder]:
        """Return the orders of an act that reached the hypervisor."""
        return [one.order for one in self.hypervisor.orders if (one.machine, one.order.act) == (machine, act)]

    def provided(self, machine: str) -> ProvidedMachine:
        """Return a machine as the hypervisor has it."""
        return self.hypervisor.machines[machine]

    def _follow(self, name: str, order: ProviderOrder) -> None:
        machine = self.machines[name]
        if order.act is ProviderAct.TAKE_SNAPSHOT:
            self._shelves[order.id] = machine.world.keep_packages()
            self.locks[order.id] = (machine.locked_by, machine.lock_holder)  # it is on the disk
        elif order.act is ProviderAct.REVERT:
            machine.world.crash(machine)
            machine.world.put_packages_back(self._shelves[order.id])
            machine.locked_by, machine.lock_holder = self.locks[order.id]
            machine.is_off = not self.comes_back
            machine.begin_boot()
            machine.cut(REVERT_SECONDS)
