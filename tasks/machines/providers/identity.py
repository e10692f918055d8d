"""Proves that the machine at an address is the one that its provider means, before an order is given to that."""

from collections.abc import Callable
from typing import Final, Protocol

from inventory.machine import Machine
from inventory.machine_providers import ProviderKind
from tasks.domain.errors import FleetpatchError, ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, Transport
from tasks.domain.provided_machines import (
    HardwareIdentity,
    IdentityProof,
    IdentityState,
    PowerState,
    ProvidedMachine,
    ProviderRecord,
)
from tasks.rules.machine_identity import (
    IDENTITY_REMEDY,
    explain_refusal,
    judge_by_record,
    judge_identity,
    normalize_instance_id,
    normalize_macs,
    normalize_uuid,
)

_ANSWER_SECONDS: Final = 60.0
_OWN_DISKS: Final = frozenset({ProviderKind.LVM.value, ProviderKind.BTRFS.value})
"""The kinds of provider that are asked on the machine itself."""


class ProviderRecords(Protocol):
    """Where it is kept what machines were at their providers."""

    def find(self, machine: str, provider: str) -> ProviderRecord | None:
        """Return what is kept of a machine at a provider; None: nothing. Raise RecordsError if it can't be read."""
        ...

    def save_identity(self, record: ProviderRecord) -> None:
        """Keep who a machine is; its notes stay as they are. Raise RecordsError if it can't be kept."""
        ...

    def save_notes(self, record: ProviderRecord) -> None:
        """Keep its notes, and what was lost of them, not who it is. It raises as ``save_identity``."""
        ...


class IdentityGuard:
    """Proves the identity of one machine. Not thread-safe."""

    def __init__(
        self, machine: Machine, kind: str, clock: Clock, connect: Callable[[str], Transport], records: ProviderRecords
    ) -> None:
        """``kind`` is the kind of its provider; ``connect`` connects to a machine of the inventory by its name."""
        self._machine, self._kind, self._clock = machine, kind, clock
        self._connect, self._records = connect, records

    def prove(self, provided: ProvidedMachine, deadline: Deadline) -> IdentityProof:
        """Return whether the machine is the one that its provider shows. The machine is asked, unless it is off.

        Raises:
            RecordsError: what is known of it can't be read or kept.
        """
        provider = self._machine.provider
        if self._kind in _OWN_DISKS:
            return IdentityProof(IdentityState.PROVEN, "the machine itself holds its disks", self._clock.now())
        reason = f"its provider says that it is {provided.power}"
        if provided.power not in {PowerState.STOPPED, PowerState.PAUSED}:
            try:
                own = self._read_own(deadline)
            except FleetpatchError as error:  # its login may be refused, too
                reason = error.message
            else:
                proof = judge_identity(own, provided.identity or HardwareIdentity(), provider)
                return self._keep(proof, provided.identity) if proof.is_proven and provided.identity else proof
        record = self._records.find(self._machine.name, provider)
        return judge_by_record(record, self._machine.address, provided.identity, provider, reason)

    def require(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        """Require that orders may be given.

        Raises:
            ProviderError: it is another machine, or nothing proves which one it is and its owner does not allow that.
            RecordsError: see prove.
        """
        if refusal := explain_refusal(self.prove(provided, deadline), self._machine.identity):
            raise ProviderError(f"nothing was ordered: {refusal}", hint=IDENTITY_REMEDY)

    def _read_own(self, deadline: Deadline) -> HardwareIdentity:
        script = Script("machine_identity", {}, read_only=True, package="tasks.machines.providers")
        transport = self._connect(self._machine.name)
        try:
            answer = transport.run_script(script, deadline=deadline.limit_to(self._clock, _ANSWER_SECONDS))
        finally:
            transport.close()
        (record, *_) = answer.find_records("machine") or ({},)
        return HardwareIdentity(
            normalize_uuid(record.get("uuid")),
            normalize_instance_id(record.get("asset_tag")),
            normalize_macs(card.get("mac") for card in answer.find_records("card")),
        )

    def _keep(self, proof: IdentityProof, identity: HardwareIdentity) -> IdentityProof:
        machine, now = self._machine, self._clock.now()
        self._records.save_identity(ProviderRecord(machine.name, machine.provider, machine.address, identity, now))
        return IdentityProof(proof.state, proof.message, now)
