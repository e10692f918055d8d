"""The contract of package managers over apt, on one of the lab's real machines."""

import pytest

from tests.contract.machine_contract import *  # noqa: F403  # pytest finds the tests here

FLAVOUR = "apt"
pytestmark = pytest.mark.lab
