"""The records of machines at their providers, in memory, and machines that are not asked who they are."""

from dataclasses import replace

from tasks.domain.errors import TransportError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Transport
from tasks.domain.provided_machines import IdentityProof, IdentityState, ProvidedMachine, ProviderRecord
from tasks.machines.providers.identity import IdentityGuard
from tasks.machines.providers.note_watch import NoteWatch
from tasks.rules.provided_disks import ProviderLoss


class KeptRecords:
    """See ProviderRecords.

    ``rows``: what is kept, by machine and provider. A test may change it.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], ProviderRecord] = {}

    def find(self, machine: str, provider: str) -> ProviderRecord | None:
        """Return what is kept of a machine at a provider."""
        return self.rows.get((machine, provider))

    def save_identity(self, record: ProviderRecord) -> None:
        """Keep who a machine is."""
        key = (record.machine, record.provider)
        before = self.rows.get(key, record)
        self.rows[key] = replace(before, address=record.address, identity=record.identity, proven_at=record.proven_at)

    def save_notes(self, record: ProviderRecord, *, replaces_unreadable: bool = False) -> None:
        """Keep its notes."""
        key = (record.machine, record.provider)
        self.rows[key] = replace(self.rows.get(key, record), notes=record.notes, loss=record.loss)


class NoGuard(IdentityGuard):
    """Lets every order through: for tests of what a provider does with it."""

    def __init__(self) -> None:
        """It needs nothing."""

    def prove(self, provided: ProvidedMachine, deadline: Deadline) -> IdentityProof:
        """Tell that it was not asked."""
        return IdentityProof(IdentityState.PROVEN, "not asked")

    def require(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        """Allow it."""


class NoWatch(NoteWatch):
    """Knows of no notes: for tests of providers that keep none."""

    def __init__(self) -> None:
        """It needs nothing."""

    def has_notes(self) -> bool:
        """Return that there are none."""
        return False

    def recorded_loss(self) -> str:
        """Return that nothing is lost."""
        return ""

    def find_loss(self, provided: ProvidedMachine, deadline: Deadline) -> ProviderLoss | None:
        """Return that nothing is lost."""
        return None

    def require_nothing_lost(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        """Allow it."""


def fail_to_connect(host: str) -> Transport:
    """Stand for a machine that does not answer."""
    raise TransportError(f"{host} does not answer")
