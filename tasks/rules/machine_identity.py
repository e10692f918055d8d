"""Whether a machine that answers at an address is the one that its provider means. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from inventory.addresses import build_endpoint
from inventory.machine import IdentityPolicy, Machine
from tasks.domain.model import Finding
from tasks.domain.provided_machines import HardwareIdentity, IdentityProof, IdentityState, ProviderRecord
from tasks.domain.states import FindingLevel

IDENTITY_CHECK: Final = "identity"
"""The check of findings about it."""
_NO_UUIDS: Final = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        # firmware whose maker has not set one (dmidecode and systemd know them, too)
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
    }
)
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INSTANCE_ID: Final = re.compile(r"i-[0-9a-f]{8,17}")
_NO_MACS: Final = frozenset({"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"})
_REMEDY: Final = "Correct its `provider` or its `address` in the inventory."
_UNKNOWN_REMEDY: Final = (
    "Let it answer once, with `fleetpatch inventory check --providers`. If nothing can prove it, write"
    " `identity: unverified` at it in the inventory: then nothing but you stands for its being the right one."
)


def explain_refusal(proof: IdentityProof, policy: IdentityPolicy) -> str:
    """Return why no order may be given to the provider of a machine, or "", with the way past."""
    if proof.is_proven or (proof.state is IdentityState.UNKNOWN and policy is IdentityPolicy.UNVERIFIED):
        return ""
    allowed = " (`identity: unverified` at it in the inventory allows it)"
    return f"{proof.message}{allowed if proof.state is IdentityState.UNKNOWN else ''}"


def describe_identity(
    proof: IdentityProof, policy: IdentityPolicy, unknown_level: FindingLevel = FindingLevel.BLOCK
) -> Finding:
    """Return a proof as a finding. ``unknown_level`` is for a machine that nothing proves, although it must be."""
    if proof.state is IdentityState.PROVEN:
        return Finding(IDENTITY_CHECK, FindingLevel.GOOD, proof.message)
    if proof.is_proven:
        return Finding.remark(IDENTITY_CHECK, proof.message)
    if not (refusal := explain_refusal(proof, policy)):
        message = f"`identity: unverified`: nothing proves that its provider means this machine: {proof.message}"
        return Finding.remark(IDENTITY_CHECK, message)
    if proof.state is IdentityState.DIFFERENT:
        return Finding(IDENTITY_CHECK, FindingLevel.BLOCK, refusal, _REMEDY)
    return Finding(IDENTITY_CHECK, unknown_level, refusal, _UNKNOWN_REMEDY)


def describe_endpoint(machine: Machine) -> str:
    """Return how a machine is reached, in words. A proof counts for one endpoint."""
    transport, address, port, jump, site = build_endpoint(machine)
    through = f" through {', '.join(jump)}" if jump else ""
    return f"{address}:{port} ({transport}, {site}){through}"


def normalize_uuid(text: object) -> str:
    """Return the UUID of a text as 8-4-4-4-12 digits in lower case; "": it is none, or one that many machines have."""
    try:
        uuid = str(UUID(str(text).strip()))
    except ValueError:
        return ""
    return "" if uuid in _NO_UUIDS else uuid


def normalize_macs(texts: Iterable[object]) -> tuple[str, ...]:
    """Return the MAC addresses of texts in lower case with colons, each once, sorted. Other texts are left out."""
    macs = {str(text).strip().lower().replace("-", ":") for text in texts}
    return tuple(sorted(mac for mac in macs if _MAC.fullmatch(mac) and mac not in _NO_MACS))


def normalize_instance_id(text: object) -> str:
    """Return the id of an instance of EC2, or "": a board of another maker has another text there."""
    instance_id = str(text).strip().lower()
    return instance_id if _INSTANCE_ID.fullmatch(instance_id) else ""


def _normalize(identity: HardwareIdentity) -> HardwareIdentity:
    macs = normalize_macs(identity.macs)
    return HardwareIdentity(normalize_uuid(identity.uuid), normalize_instance_id(identity.instance_id), macs)


def judge_identity(own: HardwareIdentity, provided: HardwareIdentity, provider: str) -> IdentityProof:
    """Return whether a machine is the one of its provider, by what both know.

    One that differs decides. Of the UUID's first three parts, firmware and tools disagree in the order of the bytes
    (SMBIOS 2.6, 7.2.1), so both orders are the same UUID. The machine (``own``) may have cards that its provider does
    not know, but not the reverse. ``provider`` is the reference of the inventory, for the message.
    """
    own, provided, same = _normalize(own), _normalize(provided), list[str]()
    if own.instance_id and provided.instance_id:
        if own.instance_id != provided.instance_id:
            return _differ("instance", own.instance_id, provider, provided.instance_id)
        same.append("instance id")
    if own.uuid and provided.uuid:
        if own.uuid not in {provided.uuid, _swap_bytes(provided.uuid)}:
            return _differ("UUID", own.uuid, provider, provided.uuid)
        same.append("UUID")
    known = set(own.macs) & set(provided.macs)
    if provided.macs and not known and (own.macs or same):
        if not same:
            return _differ("network cards", ", ".join(own.macs), provider, ", ".join(provided.macs))
        # a clone, a container that shows what its host is, or cards whose addresses somebody has changed
        message = f"it has the {same[0]} of {provider}, and none of its network cards ({', '.join(provided.macs)})"
        return IdentityProof(IdentityState.UNKNOWN, message, is_doubted=bool(own.macs))
    if provided.macs and len(known) == len(provided.macs):
        same.append("network cards")
    if same:
        return IdentityProof(IdentityState.PROVEN, f"it has the {' and the '.join(same)} of {provider}")
    lacking = "its provider tells" if not (provided.uuid or provided.macs or provided.instance_id) else "both tell"
    return IdentityProof(IdentityState.UNKNOWN, f"nothing that {lacking} of it says whether it is {provider}")


def judge_by_record(
    record: ProviderRecord | None, machine: Machine, provided: HardwareIdentity | None, reason: str, now: datetime
) -> IdentityProof:
    """Return what is known of a machine that can't be asked now, because of ``reason``.

    A ``record`` of another way to the machine, or of a time after ``now``, says nothing. ``provided`` is as its
    provider tells it now; None: it does not.
    """
    unknown, provider = IdentityState.UNKNOWN, machine.provider
    if record is None or record.identity is None or record.proven_at is None:
        return IdentityProof(unknown, f"it was never proven to be {provider}, and can't be asked: {reason}")
    at = f"{record.proven_at:%Y-%m-%d %H:%M} UTC"
    if (is_elsewhere := record.address != describe_endpoint(machine)) or record.proven_at > now:
        flaw = f"at {record.address}" if is_elsewhere else "that is later than now: a clock is or was wrong"
        return IdentityProof(
            unknown, f"it was proven to be {provider} on {at}, but {flaw}, and can't be asked: {reason}"
        )
    if provided is None:
        return IdentityProof(unknown, f"{provider} does not say who it is any more, and it can't be asked: {reason}")
    proof = judge_identity(record.identity, provided, provider)
    if proof.state is not IdentityState.PROVEN:
        message = f"{provider} has become another machine since {at}: {proof.message}"
        return IdentityProof(proof.state, message, record.proven_at)
    message = f"{proof.message}; it was asked last on {at}, and can't be asked now: {reason}"
    return IdentityProof(IdentityState.PROVEN_BEFORE, message, record.proven_at)


def _differ(kind: str, own: str, provider: str, provided: str) -> IdentityProof:
    message = f"it is another machine than {provider}: its {kind}: {own}; of {provider}: {provided}"
    return IdentityProof(IdentityState.DIFFERENT, message)


def _swap_bytes(uuid: str) -> str:
    return str(UUID(bytes_le=UUID(uuid).bytes))
