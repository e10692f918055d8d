"""Replaced OS disks: kept for their days, deleted once, and never forgotten."""

from dataclasses import replace
from datetime import timedelta

import pytest

from flows.components.component_file import Catalogue
from flows.components.overview import ComponentKnowledge
from flows.images.kept_disks import DiskState, ExpiredDisk, delete_expired_disks
from inventory.machine import Inventory
from tasks.domain.provided_machines import ProviderAct
from tasks.rules.components.tries import find_try
from tests.support.fake_provider import ProviderFault
from tests.support.image_fleet import ImageFleet

DELETE = ProviderAct.DELETE_OS_DISK


class Kept:
    """Two machines that were upgraded."""

    def __init__(self) -> None:
        self.fleet = ImageFleet(2)
        self.unfinished: dict[str, str] = {}
        report = self.fleet.upgrade()
        self.tries = tuple(attempt for outcome in report.outcomes if (attempt := find_try(outcome)) is not None)
        self.findings = [finding.message for outcome in report.outcomes for finding in outcome.findings]

    def delete(self) -> tuple[ExpiredDisk, ...]:
        group, fleet = self.fleet.group, self.fleet.fleet
        knowledge = ComponentKnowledge(Catalogue((group,)), tries={group.name: self.tries})
        inventory = Inventory(tuple(fleet.described))
        return delete_expired_disks(
            knowledge,
            inventory,
            fleet.records,
            self.fleet.hypervisor.open,
            fleet.clock,
            lambda name: self.unfinished.get(name, ""),
        )

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
    assert [disk.state for disk in kept.delete()] == [DiskState.UNREAD, DiskState.DELETED]
    assert [(disk.machine, disk.state) for disk in kept.delete()] == [("m1", DiskState.DELETED)]
    assert kept.delete() == ()


def test_a_machine_of_an_unfinished_run_is_left_alone(kept: Kept) -> None:
    kept.wait(8)
    kept.unfinished = {"m1": "20260318-010000-bbbbbb"}
    orders = len(kept.fleet.hypervisor.orders)
    first, second = kept.delete()
    assert (first.state, second.state) == (DiskState.KEPT, DiskState.DELETED)
    assert "20260318-010000-bbbbbb has not ended" in first.problem
    assert [given.machine for given in kept.fleet.hypervisor.orders[orders:]] == ["m2"]
    kept.unfinished.clear()
    assert [(disk.machine, disk.state) for disk in kept.delete()] == [("m1", DiskState.DELETED)]


def test_a_disk_that_its_provider_does_not_list_is_not_called_deleted(kept: Kept) -> None:
    kept.wait(8)
    hypervisor = kept.fleet.hypervisor
    disks = {name: machine.kept_disks for name, machine in hypervisor.machines.items()}
    hypervisor.machines = {name: replace(one, kept_disks=()) for name, one in hypervisor.machines.items()}
    assert {disk.state for disk in kept.delete()} == {DiskState.NOT_FOUND}
    kept.wait(0.1)
    hypervisor.is_away = True
    assert {disk.state for disk in kept.delete()} == {DiskState.UNREAD}
    hypervisor.is_away = False
    hypervisor.machines["m2"] = replace(hypervisor.machines["m2"], kept_disks=disks["m2"])
    assert [disk.state for disk in kept.delete()] == [DiskState.NOT_FOUND, DiskState.DELETED]
    assert kept.delete() == ()


def test_a_failed_upgrade_deletes_nothing(kept: Kept) -> None:
    kept.tries = tuple(replace(attempt, succeeded=False) for attempt in kept.tries)
    kept.wait(100)
    assert kept.delete() == ()
