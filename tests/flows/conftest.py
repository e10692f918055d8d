"""A Prefect server of the tests' own: its database, home and port are temporary, and it tells nobody anything."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import certifi
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY,
    PREFECT_HOME,
    PREFECT_LOGGING_LEVEL,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    get_current_settings,
    temporary_settings,
)

from flows.ports.caller import Caller
from flows.prefect_api.server_settings import BATCH_SETTINGS
from tests.flows.served import Served
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.prefect_forks import ForkedServer, start_prefect
from tests.support.prefect_tables import TABLES_ARE_THERE, copy_tables

STARTUP_SECONDS = 300  # on cores that others use, a start has taken more than a minute
SERVER_SETTINGS = {
    **{each.name: each.value for each in BATCH_SETTINGS},
    **TABLES_ARE_THERE,
    # No test of this server looks at events that are past, or has an automation.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The records of the flows in one test."""
    address = f"sqlite:///{tmp_path / 'records.db'}"
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", address)
    return address


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    """A client of Prefect's server."""
    with get_client(sync_client=True) as made:
        yield made


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server that is there for as long as the tests are."""
    # they take seconds to import, and most processes of the pool never need them
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.testing import utilities

    home: Path = tmp_path_factory.mktemp("prefect")
    quiet = {
        PREFECT_HOME: home,
        PREFECT_API_SSL_CERT_FILE: one_certificate(home),
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY: False,
        PREFECT_LOGGING_LEVEL: "ERROR",
    }
    EventsWorker.drain_all()  # an earlier test's goes on telling its own server, which is gone
    APILogWorker.drain_all()

    def fork(server: SubprocessASGIServer) -> ForkedServer:
        """Start it as Prefect does, but in a forked process."""
        environment = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
        return start_prefect(
            ("server", "start", "--host", "127.0.0.1", "--port", str(server.port), "--no-ui"),
            place=home,
            environment={**environment, "PREFECT__SERVER_EPHEMERAL": "1"},
            log=home / "server.log",
        )

    with temporary_settings(quiet), ExitStack() as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(utilities, "mkdtemp", _folder_with_tables)
            patch.setattr(SubprocessASGIServer, "_run_uvicorn_command", fork)
            for name, value in SERVER_SETTINGS.items():
                patch.setenv(name, value)
            server.enter_context(utilities.prefect_test_harness(server_startup_timeout=STARTUP_SECONDS))
        yield


def one_certificate(folder: Path) -> str:
    """Return a file with one certificate: each client reads them all, and that is much of what it costs to make one."""
    end = "-----END CERTIFICATE-----\n"
    place = folder / "certificate.pem"
    place.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    return str(place)


def _folder_with_tables() -> str:
    """Make the folder of the harness with its tables there: making them is most of a server's start."""
    made = mkdtemp()
    copy_tables(Path(made, "prefect-test.db"))
    return made


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimFleet:
    """A simulated fleet that the real flows reach, in place of an inventory's machines."""
    made = SimFleet()
    monkeypatch.setattr(
        "flows.execution.open_ports", lambda request, who: nullcontext(replace(made.ports(), listener=who.listener))
    )
    monkeypatch.setattr(
        "flows.prefect_runtime.runner.find_report_directory", lambda asked: asked or tmp_path / "reports"
    )
    return made


@pytest.fixture
def who(tmp_path: Path) -> Caller:
    return Caller(name="anne", records_url=f"sqlite:///{tmp_path / 'records.db'}")


@pytest.fixture
def served(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Makes flow runs of a deployment as the scheduler does, and carries them out here."""
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    return Served()


@pytest.fixture
def now_fleet(fleet: SimFleet) -> SimFleet:
    """A simulated fleet whose clock shows the time that the flow's does."""
    fleet.clock.advance((datetime.now(UTC) - fleet.clock.now()).total_seconds())
    fleet.add("web", [FakePackage("a")])
    return fleet
