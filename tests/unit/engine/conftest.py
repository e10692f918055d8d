"""Simulated fleets for each test, which runs at the default site."""

import pytest

from inventory.sites import SITE_VARIABLE
from tests.support.fleet import SimFleet
from tests.support.site_fleet import Sites


@pytest.fixture(autouse=True)
def _no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)


@pytest.fixture
def sites() -> Sites:
    return Sites(one="default", two="hamburg", three="hamburg", four="default")


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet()
