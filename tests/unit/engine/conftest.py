"""A simulated fleet for each test."""

import pytest

from tests.support.fleet import SimFleet


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet()
