"""The table of providers. A new one needs a line. A provider is loaded when a machine has it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final

from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import FleetpatchError, ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import IdentifyingProvider, MachineProvider
from tasks.domain.protocols.transport import Transport
from tasks.domain.provided_machines import IdentityProof, ProvidedMachine, ProviderAct, ProviderOrder
from tasks.machines.providers.identity import IdentityGuard, ProviderRecords
from tasks.machines.providers.note_watch import NoteWatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderPorts:
    """What providers need from outside."""

    clock: Clock  # the clock of the run
    # Connects to a machine of the inventory by its name: the hypervisor host, or the machine itself.
    connect: Callable[[str], Transport]
    records: ProviderRecords


_PLACES: Final[Mapping[ProviderKind, str]] = {
    ProviderKind.BTRFS: "btrfs.open_btrfs",
    ProviderKind.COMMAND: "command.open_command",
    ProviderKind.LIBVIRT: "libvirt.provider.open_libvirt",
    ProviderKind.LVM: "lvm.open_lvm",
}
"""Where the function is that opens each provider: (settings, machine, ports) -> MachineProvider."""


_WITHOUT_DISKS: Final = frozenset({ProviderAct.STOP, ProviderAct.POWER_OFF})
"""What may also be done to a machine whose disks somebody has taken back: it writes to them no more."""


class GuardedProvider:
    """A provider that gets orders only for the right machine, and whose orders end in time. See IdentifyingProvider.

    An order ends after the ``timeout_minutes`` of providers.yaml. An answer that can't be read is an error as any
    other. It does not tell whether an order was carried out.
    """

    def __init__(
        self,
        provider: MachineProvider,
        clock: Clock,
        order_seconds: float,
        guard: IdentityGuard,
        watch: NoteWatch,
    ) -> None:
        self._provider, self._clock, self.order_seconds, self._guard = provider, clock, order_seconds, guard
        self._watch, self.has_notes, self.recorded_loss = watch, watch.has_notes, watch.recorded_loss
        self.kind = provider.kind

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """See MachineProvider."""
        return self._provider.acts

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """See MachineProvider. Raise DisksTakenBack if its disks or notes are not what our orders have left."""
        machine = self._read(deadline)
        self._watch.require_nothing_lost(machine, deadline)
        return machine

    def _read(self, deadline: Deadline) -> ProvidedMachine:
        with _understand(self.kind, ProviderError):
            machine = self._provider.read_machine(deadline=deadline)
            # Beside an order of another process, the records may be newer than what was read before.
            loss = self._watch.find_loss(machine, deadline)
            return self._provider.read_machine(deadline=deadline) if loss is not None else machine

    def prove_identity(self, machine: ProvidedMachine, *, deadline: Deadline) -> IdentityProof:
        """See IdentifyingProvider."""
        return self._guard.prove(machine, deadline)

    def adopt(self, *, as_it_is: bool, deadline: Deadline) -> str:
        """See WatchedProvider."""
        self._guard.require(self._read(deadline), deadline)
        return self._watch.adopt(self._read(deadline), deadline, as_it_is=as_it_is)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out, if the machine is the one that the provider means. See MachineProvider."""
        deadline = deadline.limit_to(self._clock, self.order_seconds)
        machine = self._read(deadline)
        has_notes = machine.notes is not None and order.act not in _WITHOUT_DISKS
        if has_notes:
            self._watch.require_nothing_lost(machine, deadline)
        self._guard.require(machine, deadline.limit_to(self._clock, self.order_seconds / 4))
        if has_notes:
            self.read_machine(deadline=deadline)  # the proof takes seconds
        with _understand(self.kind, ProviderUnavailable):
            note = self._provider.carry_out(order, deadline=deadline)
        if has_notes:
            with suppress(FleetpatchError):  # the caller reads it again, and this process may die before
                self.read_machine(deadline=deadline)
        return note


@contextmanager
def _understand(kind: str, error_class: type[ProviderError]) -> Iterator[None]:
    """Raise the error for an answer that has another form than it should have."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        logger.exception("an answer of a provider of kind %s can't be read", kind)
        hint = "Look at what it answers. If that is right, report it as a fault of fleetpatch."
        message = f"an answer of the provider ({kind}) can't be read: {type(error).__name__}: {error}"
        raise error_class(message, hint=hint) from error


def open_provider(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> IdentifyingProvider:
    """Return the provider of a machine. No order takes longer than its settings say."""
    module, _, name = _PLACES[settings.kind].rpartition(".")
    opener: Any = getattr(import_module(f"tasks.machines.providers.{module}"), name)
    provider = opener(settings, machine, ports)
    guard = IdentityGuard(machine, settings.kind.value, ports.clock, ports.connect, ports.records)
    watch = NoteWatch(machine, provider, ports.records)
    return GuardedProvider(provider, ports.clock, settings.timeout_minutes * 60, guard, watch)
