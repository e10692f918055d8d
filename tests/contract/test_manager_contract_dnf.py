"""The contract of package managers over dnf 4, on one of the lab's real machines."""

import pytest

from tests.contract.machine_contract import *  # noqa: F403  # pytest finds the tests here
from tests.contract.manager_contract import a_power_cut_in_a_transaction_is_repaired
from tests.contract.manager_subjects import RealMachine

FLAVOUR = "dnf"
pytestmark = pytest.mark.lab


def test_a_power_cut_in_a_transaction_is_repaired(machine: RealMachine) -> None:
    a_power_cut_in_a_transaction_is_repaired(machine.host, machine.take())
