"""The contract of package managers over zypper, on one of the lab's real machines."""

from collections.abc import Iterator

import pytest

from tests.contract.manager_contract import (  # noqa: F401  # pytest finds the tests here
    TestAssess,
    TestDownload,
    TestInstall,
    TestRehearse,
    TestRepair,
    TestStage,
    a_power_cut_in_a_transaction_is_repaired,
    test_a_machine_is_not_to_be_rebooted_while_packages_are_changed_or_half_done,
    test_it_is_a_package_manager,
    test_the_same_work_is_the_same_script,
)
from tests.contract.manager_subjects import RealMachine, Subject, fresh_machine

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def machine() -> Iterator[RealMachine]:
    yield from fresh_machine("zypper")


@pytest.fixture
def subject(machine: RealMachine) -> Subject:
    return machine.take()


@pytest.fixture
def looked_at(machine: RealMachine) -> Subject:
    return machine.look()


def test_a_power_cut_in_a_transaction_is_repaired(machine: RealMachine) -> None:
    a_power_cut_in_a_transaction_is_repaired(machine.host, machine.take())
