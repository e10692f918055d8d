"""A Prefect server of the tests' own: its database, home and port are temporary, and it tells nobody anything."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY,
    PREFECT_HOME,
    PREFECT_LOGGING_LEVEL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from tests.support.fleet import SimFleet

STARTUP_SECONDS = 300  # on cores that others use, a start has taken more than a minute


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server that is there for as long as the tests are."""
    home: Path = tmp_path_factory.mktemp("prefect")
    quiet = {
        PREFECT_HOME: home,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY: False,
        PREFECT_LOGGING_LEVEL: "ERROR",
    }
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=STARTUP_SECONDS):
        yield


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimFleet:
    """A simulated fleet that the real flows reach, in place of an inventory's machines."""
    made = SimFleet()
    monkeypatch.setattr(
        "flows.carrying.real_ports", lambda request, who: nullcontext(replace(made.ports(), watch=who.watch))
    )
    monkeypatch.setattr("flows.spread.report_directory", lambda asked: asked or tmp_path / "reports")
    return made
