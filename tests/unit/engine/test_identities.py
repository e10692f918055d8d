"""Runs of machines whose providers may mean others: plan, pre-check and report tell it, and nothing is ordered."""

from dataclasses import replace
from typing import Any

import pytest

from flows.doctor import check_identities, check_machines
from inventory.machine import IdentityPolicy, Machine
from tasks.domain.errors import RecordsError
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import IdentityProof, IdentityState, ProvidedMachine
from tasks.domain.states import FindingLevel, OperationState
from tasks.machines.providers.registry import GuardedProvider
from tasks.rules.machine_identity import IDENTITY_CHECK, explain_refusal
from tests.support.fake_packages import FakePackage
from tests.support.provider_records import NoGuard, NoWatch
from tests.support.snapshot_fleet import SnapshotFleet


class Guard(NoGuard):
    """Tells what a test says."""

    def __init__(self, proof: IdentityProof | Exception) -> None:
        self.proof = proof

    def prove(self, provided: ProvidedMachine, deadline: Deadline) -> IdentityProof:
        if isinstance(self.proof, Exception):
            raise self.proof
        return self.proof


class GuardedFleet(SnapshotFleet):
    """A fleet whose providers tell one proof."""

    proof: IdentityProof | Exception

    def ports(self) -> Any:
        ports = super().ports()

        def open_provider(machine: Machine) -> GuardedProvider | None:
            provider = self.hypervisor.open(machine)
            guard = Guard(self.proof)
            return GuardedProvider(provider, self.clock, 900, guard, NoWatch()) if provider is not None else None

        return replace(ports, open_provider=open_provider)


def make_fleet(state: IdentityState, **machine: Any) -> GuardedFleet:
    fleet = GuardedFleet()
    fleet.add("web", [FakePackage("curl")], **machine)
    fleet.proof = IdentityProof(state, f"as it is: {state}")
    return fleet


def find_levels(report: RunReport) -> list[FindingLevel]:
    (outcome,) = report.outcomes
    return [finding.level for finding in outcome.findings if finding.check == IDENTITY_CHECK]


@pytest.mark.parametrize("state", [IdentityState.DIFFERENT, IdentityState.UNKNOWN])
def test_a_machine_that_is_not_proven_is_not_patched_without_its_way_back(state: IdentityState) -> None:
    fleet = make_fleet(state)
    report = fleet.patch_with_snapshot("*")
    (outcome,) = report.outcomes
    assert (outcome.state, find_levels(report)) == (OperationState.FAILED, [FindingLevel.BLOCK])
    assert f"as it is: {state}" in outcome.reason
    assert ("`identity: unverified`" in outcome.reason) == (state is IdentityState.UNKNOWN)
    assert fleet.hypervisor.orders == []


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (IdentityState.PROVEN, FindingLevel.GOOD),
        (IdentityState.PROVEN_BEFORE, FindingLevel.REMARK),
        (IdentityState.UNKNOWN, FindingLevel.REMARK),
    ],
)
def test_one_that_is_proven_or_allowed_is_patched_and_the_report_says_so(
    state: IdentityState, level: FindingLevel
) -> None:
    fleet = make_fleet(state, identity=IdentityPolicy.UNVERIFIED)
    report = fleet.patch_with_snapshot("*")
    assert (report.outcomes[0].state, find_levels(report)) == (OperationState.SUCCEEDED, [level])
    assert len(fleet.hypervisor.orders) == 1


def test_a_plan_tells_it() -> None:
    fleet = make_fleet(IdentityState.DIFFERENT)
    report = fleet.patch("*", snapshot={"take": "before"}, dry_run=True)
    (plan,) = report.plans
    assert any("pre-check would refuse: identity: as it is: Different" in note for note in plan.notes), plan.notes


def test_doctor_tells_it_of_each_machine_and_one_whose_records_fail_hides_no_other() -> None:
    fleet = make_fleet(IdentityState.UNKNOWN)
    machines = fleet.ports().inventory.machines
    levels = {
        IdentityState.DIFFERENT: FindingLevel.BLOCK,
        IdentityState.UNKNOWN: FindingLevel.WARN,
        IdentityState.PROVEN: FindingLevel.GOOD,
    }
    for state, level in levels.items():
        fleet.proof = IdentityProof(state, "as it is")
        (readiness,) = check_identities(machines, fleet.ports(), at_once=2)
        assert [finding.level for finding in readiness.findings] == [level]
    fleet.proof = RecordsError("the disk is full")
    (readiness,) = check_identities(machines, fleet.ports(), at_once=2)
    assert [str(finding) for finding in readiness.findings] == ["identity: the disk is full"]
    (ready,) = check_machines(machines, fleet.ports(), at_once=2)
    assert len(ready.findings) > 3
    assert ready.level is FindingLevel.BLOCK


def test_the_word_of_the_owner_is_not_asked_for_one_that_differs() -> None:
    proof = IdentityProof(IdentityState.DIFFERENT, "another")
    assert explain_refusal(proof, IdentityPolicy.UNVERIFIED) == "another"
