"""Proves that the machine at an address is the one that its provider means, before an order is given to that."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

from inventory.machine import Machine
from inventory.machine_providers import ProviderKind
from tasks.domain.errors import (
    FleetpatchError,
    ProviderError,
    ProviderUnavailable,
    TransportError,
    Unreachable,
)
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
    describe_endpoint,
    explain_refusal,
    judge_by_record,
    judge_identity,
    normalize_instance_id,
    normalize_macs,
    normalize_uuid,
)

_ANSWER_SECONDS: Final = 60.0
_OFF_SECONDS: Final = 30.0
"""How long a machine is asked that should be off: longer than a connection waits, also through a jump host."""
_STILL_PROVEN: Final = timedelta(minutes=1)
_OFF: Final = frozenset({PowerState.STOPPED, PowerState.PAUSED})
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

    def save_notes(self, record: ProviderRecord, *, replaces_unreadable: bool = False) -> None:
        """Keep its notes, and what was lost of them. Unreadable ones stay, unless it ``replaces_unreadable``."""
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
        """Return whether the machine is the one that its provider shows. It is asked, also if it should be off.

        If it runs, what was proven in the last minute is not asked again: an order may be given more than once. Raise
        RecordsError if what is known of it can't be read or kept.
        """
        machine, now, is_transient = self._machine, self._clock.now(), False
        if self._kind in _OWN_DISKS:
            return IdentityProof(IdentityState.PROVEN, "the machine itself holds its disks", now)
        identity, is_off = provided.identity or HardwareIdentity(), provided.power in _OFF
        power = f"its provider says that it is {provided.power}"
        record = self._records.find(machine.name, machine.provider)
        before = judge_by_record(record, machine, provided.identity, "", now)
        if not is_off and before.is_proven and before.proven_at and now - before.proven_at <= _STILL_PROVEN:
            return before
        try:
            own = self._read_own(deadline.limit_to(self._clock, _OFF_SECONDS if is_off else _ANSWER_SECONDS))
        except FleetpatchError as error:  # its login may be refused, too
            is_transient = isinstance(error, TransportError) and error.transient
            if is_off and not (isinstance(error, Unreachable) and error.is_silent):
                message = f"{power}, and it is not sure that nothing answers at its address: {error.message}"
                return IdentityProof(IdentityState.UNKNOWN, message, is_transient=is_transient)
            reason = power if is_off else error.message
        else:
            proof = judge_identity(own, identity, machine.provider)
            if is_off:  # it runs elsewhere: an order here would start it a second time
                message = f"{power}, and it answers at its address: {proof.message}"
                # the right one may just have been started: it is asked again
                proof = IdentityProof(IdentityState.DIFFERENT, message, is_transient=proof.is_proven)
            if proof.is_proven:
                endpoint = describe_endpoint(machine)
                self._records.save_identity(ProviderRecord(machine.name, machine.provider, endpoint, identity, now))
                return replace(proof, proven_at=now)
            if proof.state is IdentityState.DIFFERENT or proof.is_doubted:
                return proof
            reason = proof.message
        return replace(judge_by_record(record, machine, provided.identity, reason, now), is_transient=is_transient)

    def require(self, provided: ProvidedMachine, deadline: Deadline) -> None:
        """Require that orders may be given.

        Raises:
            ProviderError: it is another machine, or nothing proves which one it is and its owner does not allow that.
            ProviderUnavailable: the latter, and it may answer later.
            RecordsError: see prove.
        """
        proof = self.prove(provided, deadline)
        if refusal := explain_refusal(proof, self._machine.identity):
            kind = ProviderUnavailable if proof.is_transient else ProviderError
            raise kind(f"nothing was ordered: {refusal}")

    def _read_own(self, deadline: Deadline) -> HardwareIdentity:
        script = Script("machine_identity", {}, read_only=True, package="tasks.machines.providers")
        transport = self._connect(self._machine.name)
        try:
            answer = transport.run_script(script, deadline=deadline)
        finally:
            transport.close()
        (record, *_) = answer.find_records("machine") or ({},)
        return HardwareIdentity(
            normalize_uuid(record.get("uuid")),
            normalize_instance_id(record.get("asset_tag")),
            normalize_macs(card.get("mac") for card in answer.find_records("card")),
        )
