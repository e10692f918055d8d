"""Rules of identity: which machines are the same, and what a proof of before is worth."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import IdentityPolicy, Machine
from tasks.domain.provided_machines import HardwareIdentity, IdentityProof, IdentityState, ProviderRecord
from tasks.domain.states import FindingLevel
from tasks.rules.machine_identity import (
    describe_endpoint,
    describe_identity,
    explain_refusal,
    judge_by_record,
    judge_identity,
    normalize_instance_id,
    normalize_macs,
    normalize_uuid,
)

UUID_A = "4c4c4544-0044-4410-8054-b9c04f595631"
SWAPPED_A = "44454c4c-4400-1044-8054-b9c04f595631"
UUID_B = "11111111-2222-4333-8444-555555555555"
CARD_A, CARD_B, CARD_C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"
AT = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
MACHINE = Machine("web", "10.0.0.1", provider="rack/a")

macs = st.lists(st.sampled_from([CARD_A, CARD_B, CARD_C]), unique=True).map(tuple)
identities = st.builds(
    HardwareIdentity, st.sampled_from(["", UUID_A, SWAPPED_A, UUID_B]), st.sampled_from(["", "i-01234567"]), macs
)


@pytest.mark.parametrize(
    ("own", "provided", "state"),
    [
        (HardwareIdentity(UUID_A), HardwareIdentity(UUID_A), IdentityState.PROVEN),
        (HardwareIdentity(UUID_A), HardwareIdentity(SWAPPED_A), IdentityState.PROVEN),  # Azure, VMware, old dmidecode
        (HardwareIdentity(UUID_A), HardwareIdentity(UUID_B), IdentityState.DIFFERENT),
        # the card of the right machine does not help: a bridge or a macvtap of its host has it, too
        (HardwareIdentity(UUID_A, macs=(CARD_A,)), HardwareIdentity(UUID_B, macs=(CARD_A,)), IdentityState.DIFFERENT),
        (HardwareIdentity(macs=(CARD_A, CARD_B)), HardwareIdentity(macs=(CARD_A,)), IdentityState.PROVEN),
        (HardwareIdentity(macs=(CARD_A,)), HardwareIdentity(macs=(CARD_A, CARD_B)), IdentityState.UNKNOWN),
        (HardwareIdentity(macs=(CARD_A,)), HardwareIdentity(macs=(CARD_B,)), IdentityState.DIFFERENT),
        # a clone with the same UUID
        (HardwareIdentity(UUID_A, macs=(CARD_A,)), HardwareIdentity(UUID_A, macs=(CARD_B,)), IdentityState.UNKNOWN),
        (HardwareIdentity(UUID_A, macs=(CARD_A,)), HardwareIdentity(UUID_A), IdentityState.PROVEN),
        (HardwareIdentity(UUID_A), HardwareIdentity(macs=(CARD_A,)), IdentityState.UNKNOWN),
        # a container that shows what its host is, and has cards that are not asked
        (HardwareIdentity(UUID_A), HardwareIdentity(UUID_A, macs=(CARD_A,)), IdentityState.UNKNOWN),
        (HardwareIdentity("", "i-01234567"), HardwareIdentity("", "i-01234567", (CARD_A,)), IdentityState.UNKNOWN),
        (HardwareIdentity(UUID_A, macs=(CARD_A,)), HardwareIdentity("no UUID"), IdentityState.UNKNOWN),
        (HardwareIdentity(UUID_A), HardwareIdentity(UUID_A.upper()), IdentityState.PROVEN),
        (HardwareIdentity(), HardwareIdentity(UUID_A, macs=(CARD_A,)), IdentityState.UNKNOWN),
        (HardwareIdentity(UUID_A), HardwareIdentity(), IdentityState.UNKNOWN),
        (HardwareIdentity(), HardwareIdentity(), IdentityState.UNKNOWN),
        (HardwareIdentity(UUID_A, "i-01234567"), HardwareIdentity(UUID_A, "i-01234568"), IdentityState.DIFFERENT),
        (HardwareIdentity("", "i-01234567", (CARD_A,)), HardwareIdentity("", "i-01234567"), IdentityState.PROVEN),
    ],
)
def test_who_is_the_same_machine(own: HardwareIdentity, provided: HardwareIdentity, state: IdentityState) -> None:
    proof = judge_identity(own, provided, "rack/vm-2")
    assert proof.state is state
    assert "rack/vm-2" in proof.message
    assert not proof.is_doubted or (own.macs and provided.macs and state is IdentityState.UNKNOWN)


@given(identities, identities)
def test_nothing_is_proven_by_what_one_side_alone_knows(own: HardwareIdentity, provided: HardwareIdentity) -> None:
    proof = judge_identity(own, provided, "rack/a")
    if not proof.is_proven:
        return
    shares_uuid = own.uuid == provided.uuid != "" or {own.uuid, provided.uuid} == {UUID_A, SWAPPED_A}
    shares_id = own.instance_id == provided.instance_id != ""
    shares_cards = bool(provided.macs) and set(provided.macs) <= set(own.macs)
    assert shares_uuid or shares_id or shares_cards
    assert not provided.macs or set(own.macs) & set(provided.macs)
    assert not (own.uuid and provided.uuid) or shares_uuid


@pytest.mark.parametrize(
    ("text", "uuid"),
    [
        (UUID_A.upper() + "\n", UUID_A),
        ("{" + UUID_A + "}", UUID_A),
        ("00000000-0000-0000-0000-000000000000", ""),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", ""),
        ("03000200-0400-0500-0006-000700080009", ""),
        ("Not Settable", ""),
        (None, ""),
    ],
)
def test_a_uuid_that_many_machines_have_is_none(text: object, uuid: str) -> None:
    assert normalize_uuid(text) == uuid


def test_cards_and_instances_are_read_in_all_forms() -> None:
    assert normalize_macs(["52-54-00-00-00-0A", CARD_A, "00:00:00:00:00:00", "", None, "eth0"]) == (CARD_A,)
    tags = ("i-0ABCDEF1", "Default string", "i-x", None)
    assert [normalize_instance_id(tag) for tag in tags] == ["i-0abcdef1", "", "", ""]


def record(**changes: object) -> ProviderRecord:
    values = {"address": describe_endpoint(MACHINE), "identity": HardwareIdentity(UUID_A), "proven_at": AT, **changes}
    return ProviderRecord("web", "rack/a", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "provided", "state"),
    [
        (record(), HardwareIdentity(UUID_A), IdentityState.PROVEN_BEFORE),
        (record(), HardwareIdentity(UUID_B), IdentityState.DIFFERENT),  # somebody made another one of that name
        (record(), None, IdentityState.UNKNOWN),
        (record(), HardwareIdentity(), IdentityState.UNKNOWN),
        (record(address="there"), HardwareIdentity(UUID_A), IdentityState.UNKNOWN),
        (record(identity=None), HardwareIdentity(UUID_A), IdentityState.UNKNOWN),
        (None, HardwareIdentity(UUID_A), IdentityState.UNKNOWN),
    ],
)
def test_a_machine_that_is_off_is_known_by_what_was_proven_last(
    before: ProviderRecord | None, provided: HardwareIdentity | None, state: IdentityState
) -> None:
    proof = judge_by_record(before, MACHINE, provided, "it is off", AT)
    assert proof.state is state
    assert not judge_by_record(before, MACHINE, provided, "it is off", AT - timedelta(seconds=1)).is_proven
    if proof.is_proven:
        assert (proof.proven_at, "2026-03-10 01:00 UTC" in proof.message) == (AT, True)


@pytest.mark.parametrize("state", IdentityState)
@pytest.mark.parametrize("policy", IdentityPolicy)
def test_one_word_of_the_inventory_allows_the_unknown_and_never_the_different(
    state: IdentityState, policy: IdentityPolicy
) -> None:
    proof = IdentityProof(state, "as it is")
    finding = describe_identity(proof, policy)
    allowed = proof.is_proven or (state is IdentityState.UNKNOWN and policy is IdentityPolicy.UNVERIFIED)
    assert (explain_refusal(proof, policy) == "") == allowed
    assert (finding.level is FindingLevel.BLOCK) == (not allowed)
    assert ("`identity: unverified`" in finding.message) == (state is IdentityState.UNKNOWN)
    assert bool(finding.remedy) == (not allowed)
    if allowed:
        assert (finding.level is FindingLevel.GOOD) == (state is IdentityState.PROVEN)


@pytest.mark.parametrize("changes", [{"port": 2202}, {"jump": ("gate",)}, {"site": "b"}, {"address": "10.0.0.2"}])
def test_a_proof_counts_for_one_way_to_the_machine(changes: dict[str, Any]) -> None:
    machine = replace(MACHINE, port=2201)
    before = record(address=describe_endpoint(machine))
    for endpoint, is_proven in ((machine, True), (replace(machine, **changes), False)):
        proof = judge_by_record(before, endpoint, HardwareIdentity(UUID_A), "silent", AT)
        assert proof.is_proven is is_proven
