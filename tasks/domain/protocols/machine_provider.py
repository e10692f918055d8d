"""The MachineProvider protocol: whoever holds the disks of a machine."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import (
    IdentityProof,
    ProvidedMachine,
    ProviderAct,
    ProviderNotes,
    ProviderOrder,
)


class MachineProvider(Protocol):
    """The provider of one machine. Not thread-safe.

    An order may be given twice: what is done already stays as it is. Its answer proves nothing: callers ask
    ``read_machine`` afterwards. A data disk is never changed, but by a revert that says so. A disk that an order
    replaces is kept until ``DELETE_OS_DISK`` names it. An order that fails halfway leaves a machine that
    ``read_machine`` describes truly, and that the same order, or the one that takes it back, can complete.

    Every method raises ProviderError (ProviderUnavailable: it may succeed later; the order may or may not have been
    carried out), and TransportError where it is reached through a machine.
    """

    @property
    def kind(self) -> str:
        """The name of the kind, such as ``libvirt``."""
        ...

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """What it can be asked to do."""
        ...

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        ...

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        ...


@runtime_checkable
class NoteKeeper(Protocol):
    """A provider whose notes of our orders are beside the machine, where others can lose them."""

    def explain_way_back(self, known: ProviderNotes, *, deadline: Deadline) -> str:
        """Return, in lines, where the newest data of the disks are, and how the machine gets them back."""
        ...

    def find_there(self, paths: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """Return the files that are there."""
        ...

    def renew_notes(self, known: ProviderNotes, *, is_restored: bool, deadline: Deadline) -> Sequence[str]:
        """Write notes that are newer than the known ones, with the text of these, or of the present ones.

        Return the files of the known ones that are there and that nothing of the machine needs.
        """
        ...


@runtime_checkable
class WatchedProvider(Protocol):
    """A provider whose notes are in the records, too. Its ``read_machine`` raises DisksTakenBack, as do orders."""

    def has_notes(self) -> bool:
        """Return whether the records know of anything that can be taken back."""
        ...

    def recorded_loss(self) -> str:
        """Return what was taken back when somebody looked last, in lines, or ""."""
        ...

    def adopt(self, *, as_it_is: bool, deadline: Deadline) -> str:
        """End a loss: write lost notes again, or take the machine ``as_it_is``. Return what was done; "": nothing.

        Raises:
            DisksTakenBack: its disks are not in their newest files, and it is not to be taken as it is.
        """
        ...


@runtime_checkable
class TimedProvider(MachineProvider, Protocol):
    """A provider that ends each order in time, whatever its caller allows."""

    @property
    def order_seconds(self) -> float:
        """How long one order may take."""
        ...


@runtime_checkable
class IdentifyingProvider(TimedProvider, Protocol):
    """A provider that refuses orders for a machine which is another one than the provider means."""

    def prove_identity(self, machine: ProvidedMachine, *, deadline: Deadline) -> IdentityProof:
        """Return whether the machine of the inventory is this one of the provider. Raise RecordsError if not known."""
        ...
