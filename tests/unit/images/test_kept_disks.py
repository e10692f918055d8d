"""Replaced OS disks: kept for their days, deleted once, and never forgotten."""

from dataclasses import replace
from datetime import timedelta

import pytest

from flows.components.component_file import Catalogue
from flows.components.overview import ComponentKnowledge
from flows.images.kept_disks import DiskCleaner, ExpiredDisk
from inventory.machine import Inventory
from tasks.domain.errors import RequestError
from tasks.domain.images import KeptDiskState
from tasks.domain.protocols.records import JournalMark
from tasks.domain.provided_machines import ProviderAct
from tasks.records.left_disks import LeftDisk
from tasks.rules.components.tries import find_try
from tasks.rules.images.disks import is_settled
from tasks.steps.context.journal import DELETE_DISK_ACT, REPLACE_ACT
from tests.support.fake_provider import ProviderFault
from tests.support.image_fleet import NEW, RUN, ImageFleet

DELETE = ProviderAct.DELETE_OS_DISK


class Kept:
    """Two machines that were upgraded."""

    def __init__(self) -> None:
        self.fleet = ImageFleet(2)
        self.unfinished: dict[str, str] = {}
        report = self.fleet.upgrade()
        self.tries = tuple(attempt for outcome in report.outcomes if (attempt := find_try(outcome)) is not None)
        self.left = [
            LeftDisk(entry.machine, RUN, entry.key, entry.at, NEW)
            for name in self.fleet.versions
            for entry in self.fleet.fleet.records.read_entries(RUN, name)
            if entry.act == REPLACE_ACT and entry.mark is JournalMark.BEFORE
        ]
        self.findings = [finding.message for outcome in report.outcomes for finding in outcome.findings]

    def delete(self) -> tuple[ExpiredDisk, ...]:
        return self.cleaner.delete_expired(self.knowledge)

    def settle(self, *given_up: str) -> tuple[ExpiredDisk, ...]:
        return self.cleaner.settle_left(self.left, self.knowledge, given_up)

    @property
    def knowledge(self) -> ComponentKnowledge:
        group = self.fleet.group
        return ComponentKnowledge(Catalogue((group,)), tries={group.name: self.tries})

    @property
    def cleaner(self) -> DiskCleaner:
        fleet = self.fleet.fleet
        find_run = lambda name: self.unfinished.get(name, "")  # noqa: E731
        return DiskCleaner(
            Inventory(tuple(fleet.described)), fleet.records, self.fleet.hypervisor.open, fleet.clock, find_run
        )

    def fail(self) -> None:
        self.tries = tuple(replace(attempt, succeeded=False) for attempt in self.tries)

    def wait(self, days: float) -> None:
        self.fleet.fleet.clock.advance(timedelta(days=days).total_seconds())

    @property
    def kept(self) -> dict[str, int]:
        return {name: len(machine.kept_disks) for name, machine in self.fleet.hypervisor.machines.items()}


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_disk_is_kept_for_its_days_and_then_deleted_once(kept: Kept) -> None:
    assert any("its OS disk before is kept until 2026-03-17" in message for message in kept.findings)
    kept.wait(6.9)
    assert kept.delete() == ()
    assert kept.kept == {"m1": 1, "m2": 1}
    kept.wait(0.2)
    assert [(disk.machine, disk.problem) for disk in kept.delete()] == [("m1", ""), ("m2", "")]
    assert kept.kept == {"m1": 0, "m2": 0}
    assert kept.fleet.broken() == []
    orders = len(kept.fleet.hypervisor.orders)
    assert kept.delete() == ()
    assert len(kept.fleet.hypervisor.orders) == orders


def test_a_provider_that_does_not_answer_is_asked_again(kept: Kept) -> None:
    kept.wait(8)
    kept.fleet.hypervisor.faults[DELETE] = [ProviderFault.AWAY_BEFORE]
    first = kept.delete()
    assert [disk.problem for disk in first] == ["the hypervisor does not answer", ""]
    assert [disk.machine for disk in kept.delete()] == ["m1"]
    assert kept.kept == {"m1": 0, "m2": 0}


def test_a_deletion_whose_answer_was_lost_is_one(kept: Kept) -> None:
    kept.wait(8)
    kept.fleet.hypervisor.faults[DELETE] = [ProviderFault.AWAY_AFTER]
    assert [disk.state for disk in kept.delete()] == [KeptDiskState.UNREAD, KeptDiskState.DELETED]
    assert [(disk.machine, disk.state) for disk in kept.delete()] == [("m1", KeptDiskState.DELETED)]
    assert kept.delete() == ()


def test_a_machine_of_an_unfinished_run_is_left_alone(kept: Kept) -> None:
    kept.wait(8)
    kept.unfinished = {"m1": "20260318-010000-bbbbbb"}
    orders = len(kept.fleet.hypervisor.orders)
    first, second = kept.delete()
    assert (first.state, second.state) == (KeptDiskState.KEPT, KeptDiskState.DELETED)
    assert "20260318-010000-bbbbbb has not ended" in first.problem
    assert [given.machine for given in kept.fleet.hypervisor.orders[orders:]] == ["m2"]
    kept.unfinished.clear()
    assert [(disk.machine, disk.state) for disk in kept.delete()] == [("m1", KeptDiskState.DELETED)]


def test_a_disk_that_its_provider_does_not_list_is_not_called_deleted(kept: Kept) -> None:
    kept.wait(8)
    hypervisor = kept.fleet.hypervisor
    disks = {name: machine.kept_disks for name, machine in hypervisor.machines.items()}
    hypervisor.machines = {name: replace(one, kept_disks=()) for name, one in hypervisor.machines.items()}
    assert {disk.state for disk in kept.delete()} == {KeptDiskState.NOT_FOUND}
    kept.wait(0.1)
    hypervisor.is_away = True
    assert {disk.state for disk in kept.delete()} == {KeptDiskState.UNREAD}
    hypervisor.is_away = False
    hypervisor.machines["m2"] = replace(hypervisor.machines["m2"], kept_disks=disks["m2"])
    assert [disk.state for disk in kept.delete()] == [KeptDiskState.NOT_FOUND, KeptDiskState.DELETED]
    assert kept.delete() == ()


def test_the_way_back_of_a_machine_that_failed_is_told_and_not_deleted(kept: Kept) -> None:
    kept.fail()
    kept.wait(100)
    assert kept.delete() == ()
    first, _ = kept.settle()
    assert (first.machine, first.state) == ("m1", KeptDiskState.WAY_BACK)
    assert "replaced by 12.2 100 days ago" in first.problem
    assert first.problem.endswith("fleetpatch images clean --failed m1")
    assert kept.kept == {"m1": 1, "m2": 1}


def test_a_person_gives_one_way_back_up(kept: Kept) -> None:
    kept.fail()
    states = {disk.machine: disk.state for disk in kept.settle("m2")}
    assert states == {"m1": KeptDiskState.WAY_BACK, "m2": KeptDiskState.DELETED}
    assert kept.kept == {"m1": 1, "m2": 0}
    assert [disk.machine for disk in kept.settle()] == ["m1"]
    with pytest.raises(RequestError, match="no disk of a failed upgrade is known of m3"):
        kept.settle("m3", "m1")
    assert kept.kept == {"m1": 1, "m2": 0}


def test_an_unfinished_run_keeps_a_way_back_that_was_given_up(kept: Kept) -> None:
    kept.fail()
    kept.unfinished = {"m1": "20260318-010000-bbbbbb"}
    assert [disk.state for disk in kept.settle("m1")] == [KeptDiskState.KEPT, KeptDiskState.WAY_BACK]
    assert kept.kept == {"m1": 1, "m2": 1}


def test_a_later_success_whose_days_are_over_ends_the_way_back(kept: Kept) -> None:
    kept.fail()
    kept.wait(1)
    later = replace(kept.tries[0], run_id="20260312-010000-cccccc", succeeded=True, at=kept.fleet.fleet.clock.now())
    kept.tries = (*kept.tries, later)
    kept.wait(6.9)
    assert {disk.state for disk in kept.settle()} == {KeptDiskState.WAY_BACK}
    kept.wait(0.2)
    assert [disk.state for disk in kept.settle()] == [KeptDiskState.DELETED, KeptDiskState.WAY_BACK]
    assert kept.kept == {"m1": 0, "m2": 1}


def test_a_way_back_that_nobody_has_any_more_is_looked_for_twice(kept: Kept) -> None:
    kept.fail()
    hypervisor = kept.fleet.hypervisor
    hypervisor.machines["m1"] = replace(hypervisor.machines["m1"], kept_disks=())
    for _ in range(2):
        assert [disk.state for disk in kept.settle()] == [KeptDiskState.NOT_FOUND, KeptDiskState.WAY_BACK]
        kept.wait(0.1)
    assert [disk.machine for disk in kept.settle()] == ["m2"]
    hypervisor.is_away = True
    assert [disk.state for disk in kept.settle("m2")] == [KeptDiskState.UNREAD]


@pytest.mark.parametrize("name", ["gone", "m1"])
def test_the_disk_of_a_machine_that_left_the_inventory_is_told_until_a_person_gives_it_up(
    kept: Kept, name: str
) -> None:
    kept.fail()
    kept.left = [replace(kept.left[0], machine=name)]
    described = kept.fleet.fleet.described
    described[:] = [replace(machine, provider="") for machine in described]
    for given_up in ((), (name,)):
        (told,) = kept.settle(*given_up)
        assert (told.state, "with a provider any more" in told.problem) == (KeptDiskState.UNREAD, True)
        entries = kept.fleet.fleet.records.read_entries(RUN, name)
        assert is_settled([one.detail["state"] for one in entries if one.act == DELETE_DISK_ACT]) is bool(given_up)
    assert kept.kept == {"m1": 1, "m2": 1}


def test_the_success_of_an_earlier_group_does_not_hide_a_later_one(kept: Kept) -> None:
    older = replace(kept.tries[0], at=kept.left[0].replaced_at - timedelta(days=30), run_id="20260210-010000-dddddd")
    later = replace(kept.tries[0], at=kept.left[0].replaced_at + timedelta(days=1), run_id="20260311-010000-cccccc")
    kept.tries = (later, older)
    kept.wait(9)
    assert [disk.state for disk in kept.settle()] == [KeptDiskState.DELETED, KeptDiskState.WAY_BACK]
