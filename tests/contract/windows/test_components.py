"""Components on Windows: the scripts in PowerShell. What MSI, winget and Chocolatey do was never seen."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.machine import OsFamily
from tasks.domain.components import Component, ComponentVersion, InstalledComponent
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script
from tasks.domain.states import Classification
from tasks.machines.managers.components.manager import ComponentManager
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tests.contract.component_subjects import ends, kinds, serve_files
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.support.components import make_component


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve_files(tmp_path / "served") as address:
        yield address


class App:
    """A component of Windows, installed by a command of its owner."""

    def __init__(self, warm: WarmMachine, place: Path, url: str) -> None:
        self.folder = warm.make_place()
        self.host = warm.open_host(self.folder)
        self.state = place / "installed.txt"
        self.state.write_text("1.0.0\n")
        versions = []
        for version in ("1.0.0", "1.1.0"):
            content = f"{version}\n".encode()
            (place / "served" / version).write_bytes(content)
            versions.append(ComponentVersion(version, f"{url}/{version}", sha256=hashlib.sha256(content).hexdigest()))
        self.component: Component = make_component(
            "app",
            family=OsFamily.WINDOWS,
            versions=tuple(versions),
            version_command=f"if (Test-Path '{self.state}') {{ \"app version $(Get-Content '{self.state}')\" }}",
            version_pattern="version ([0-9.]+)",
            install=f"Copy-Item -LiteralPath $env:FLEETPATCH_FILE -Destination '{self.state}' -Force",
        )
        self.count = 0

    @property
    def manager(self) -> ComponentManager:
        return ComponentManager(WindowsUpdateManager(), [self.component])

    @property
    def soon(self) -> Deadline:
        return Deadline.after(CLOCK, 300)

    def read(self) -> InstalledComponent:
        (installed,) = self.manager.read_components(self.host, deadline=self.soon)
        return installed

    def run(self, kind: JobKind, installed: str, available: str) -> JobStatus:
        update = Update("component:app", "app", "", installed, available, Classification.OTHER)
        script = self.manager.build_job_script(kind, [Transaction(0, (update,), CLOCK.now().timestamp() + 3600, 60)])
        self.count += 1
        status = self.host.start_job(Job(f"job-{self.count}", script), deadline=self.soon)
        while status.phase is JobPhase.RUNNING:
            CLOCK.sleep(0.1)
            status = self.host.poll_job(f"job-{self.count}", deadline=self.soon)
        return self.host.poll_job(f"job-{self.count}", deadline=self.soon)


@pytest.fixture
def app(warm: WarmMachine, tmp_path: Path, url: str) -> Iterator[App]:
    yield App(warm, tmp_path, url)
    warm.wait_for_no_task()


def test_a_version_comes_and_the_one_before_comes_back(app: App, tmp_path: Path) -> None:
    assert app.read() == InstalledComponent("app", "1.0.0")
    assert ends(app.run(JobKind.STAGE, "1.0.0", "1.1.0")) == [(0, "")]
    installed = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(installed) == [(0, "")], installed.log
    assert "transaction_started" in kinds(installed)
    assert app.read() == InstalledComponent("app", "1.1.0")
    (tmp_path / "served/1.0.0").unlink()  # the way back needs no network
    assert ends(app.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
    assert app.read() == InstalledComponent("app", "1.0.0")
    app.state.unlink()
    assert app.read() == InstalledComponent("app")


def test_a_file_with_another_digest_is_never_installed(app: App, tmp_path: Path) -> None:
    (tmp_path / "served/1.1.0").write_text("6.6.6\n")
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(1, "fetch")]
    assert "another digest" in str(status.events[-2]["error"])
    assert app.read().version == "1.0.0"


def test_an_installation_that_fails_says_why(app: App) -> None:
    app.component = replace(app.component, install="throw 'no such library'")
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(1, "failed")]
    assert "no such library" in str(status.events[-2]["error"])


def test_a_product_that_is_not_there_is_not_installed(app: App) -> None:
    app.component = replace(app.component, kind="msi", version_command="", version_pattern="", package="No Such App")
    assert app.read() == InstalledComponent("app")


def test_a_file_arrives_in_parts(app: App) -> None:
    content = bytes(range(256)) * 300
    digest = hashlib.sha256(content).hexdigest()
    have, is_whole = 0, False
    for _ in range(4):
        params = {
            "component": "app",
            "sha256": digest,
            "size": str(len(content)),
            "offset": str(have),
            "data": base64.b64encode(content[have : have + 40_000]).decode(),
        }
        answer = app.host.run_script(Script("component_put", params, read_only=False), deadline=app.soon)
        (record,) = answer.find_records("component_file")
        have, is_whole = int(str(record["have"])), bool(record["is_whole"])
    assert (have, is_whole) == (len(content), True)
    assert (app.folder / "components/app" / digest).read_bytes() == content
