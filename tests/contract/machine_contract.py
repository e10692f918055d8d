"""The contract of package managers on one of the lab's real machines: its tests, and the fixtures that they need.

A family's test module imports all of it, and names the machine that it wants: ``FLAVOUR``.
"""

from collections.abc import Iterator

import pytest

from tests.contract.manager_contract import *  # noqa: F403
from tests.contract.manager_subjects import RealMachine, Subject, fresh_machine


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[RealMachine]:
    yield from fresh_machine(request.module.FLAVOUR)


@pytest.fixture
def subject(machine: RealMachine) -> Subject:
    return machine.take()


@pytest.fixture
def looked_at(machine: RealMachine) -> Subject:
    return machine.look()
