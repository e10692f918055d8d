"""Runs that take others back by the snapshot from before: also on a machine that does not answer."""

from dataclasses import replace
from typing import Any, cast

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.undo_orders import find_undo_order
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.undo import build_undo_request
from tasks.domain.model import Outcome, RunInfo
from tasks.domain.provided_machines import ProviderAct, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import OperationState, UndoWay, UpdateState
from tasks.domain.undo import UndoSnapshot
from tasks.records.queries.history import History
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import ProviderFault
from tests.support.fake_records import FakeHistory
from tests.support.fleet import outcome_of, result_of
from tests.support.snapshot_fleet import SnapshotFleet
from tests.support.taking_up import RUN

PATCHED = "20260309-010000-bbbbbb"
BEFORE = {"app": "1.0", "shop": "1.0"}
REVERT = ProviderAct.REVERT


class UndoFleet(SnapshotFleet):
    """A machine on which a run has updated two packages, after it has taken a snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, SnapshotRow] = {}
        self.later_runs: tuple[str, ...] = ()
        self.save_snapshot = self._keep
        self.web = self.add("web", [FakePackage("shop"), FakePackage("app")])
        request = self.request("shop", "app", snapshot="before")
        self.patched = FleetRun(request, super().ports(), LocalRunner(), run_id=PATCHED).execute()

    def _keep(self, row: SnapshotRow) -> None:
        self.rows[row.machine] = row

    def find_snapshots(self, run: RunInfo) -> dict[str, UndoSnapshot]:
        return {name: UndoSnapshot(row, self.later_runs) for name, row in self.rows.items() if row.run_id == run.id}

    @property
    def history(self) -> History:
        return cast("History", FakeHistory(self.records))

    def ports(self) -> Ports:
        return replace(
            super().ports(), find_undo_order=lambda run: find_undo_order(self.history, run, self.find_snapshots)
        )

    def undo(self, **fields: Any) -> Outcome:
        request = build_undo_request(self.history, PATCHED, ["web"], find_snapshots=self.find_snapshots, **fields)
        report = self.campaign(request.model_copy(update={"settle_seconds": 0})).execute()
        self.notes = [note for plan in report.plans for note in plan.notes]
        return outcome_of(report, "web")


@pytest.fixture
def fleet() -> UndoFleet:
    return UndoFleet()


def test_a_machine_goes_back_to_its_snapshot(fleet: UndoFleet) -> None:
    assert fleet.web.world.whole() == {"app": "2.0", "shop": "2.0"}
    outcome = fleet.undo()
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert fleet.web.world.whole() == BEFORE
    assert len(fleet.find_acts("web", REVERT)) == 1
    assert {result_of(outcome, name).state for name in ("app", "shop")} == {UpdateState.INSTALLED}
    assert (fleet.rows["web"].state, fleet.rows["web"].run_id) == (SnapshotState.REVERTED, PATCHED)
    assert not [job for job in fleet.web.installs() if RUN in job.id]


def test_its_plan_says_what_is_lost(fleet: UndoFleet) -> None:
    fleet.clock.advance(3 * 3600)
    fleet.undo(dry_run=True)
    assert any("OS disks since then (3 h" in note and "is lost" in note for note in fleet.notes)
    assert not fleet.find_acts("web", REVERT)


def test_a_later_run_is_only_taken_back_if_a_person_says_so(fleet: UndoFleet) -> None:
    fleet.later_runs = ("20260309-020000-cccccc",)
    fleet.undo(dry_run=True)
    assert not any("by the snapshot" in note for note in fleet.notes)
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert any("later runs are taken back with it" in note for note in fleet.notes)


def test_packages_only_leaves_the_snapshot_alone(fleet: UndoFleet) -> None:
    fleet.undo(by=UndoWay.PACKAGES)
    assert not fleet.find_acts("web", REVERT)


def test_a_snapshot_that_is_gone_is_not_replaced_by_packages_if_it_was_asked_for(fleet: UndoFleet) -> None:
    machine = fleet.provided("web")
    fleet.hypervisor.machines["web"] = replace(machine, snapshots=())
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "the provider does not have it" in outcome.reason
    assert fleet.web.world.whole() == {"app": "2.0", "shop": "2.0"}


@pytest.mark.parametrize("fault", [ProviderFault.AWAY_BEFORE, ProviderFault.AWAY_AFTER])
def test_a_provider_that_is_away_for_a_moment_is_asked_again(fleet: UndoFleet, fault: ProviderFault) -> None:
    fleet.hypervisor.faults[REVERT] = [fault]
    assert fleet.undo().state is OperationState.SUCCEEDED
    assert fleet.web.world.whole() == BEFORE


def test_a_refused_revert_fails_the_machine(fleet: UndoFleet) -> None:
    fleet.hypervisor.faults[REVERT] = [ProviderFault.REFUSED]
    outcome = fleet.undo()
    assert outcome.state is OperationState.FAILED
    assert "revert was refused" in outcome.reason
    assert fleet.rows["web"].state is SnapshotState.TAKEN


def test_a_machine_that_does_not_answer_goes_back_if_its_snapshot_is_asked_for(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    outcome = fleet.undo(by=UndoWay.SNAPSHOT)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert fleet.web.world.whole() == BEFORE
    assert any("did not answer, and was put back" in finding.message for finding in outcome.findings)


def test_without_that_a_machine_that_does_not_answer_stays_as_it_is(fleet: UndoFleet) -> None:
    fleet.web.is_off = True
    assert fleet.undo().state is OperationState.FAILED
    assert not fleet.find_acts("web", REVERT)
