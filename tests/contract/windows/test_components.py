"""Components on Windows: the scripts in PowerShell. Windows Installer, winget and Chocolatey are stand-ins."""

import base64
import hashlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from tests.lab.windows.state import read_state
from tests.support.components import make_component


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve_files(tmp_path / "served") as address:
        yield address


class App:
    """A component of Windows, installed by a command of its owner."""

    def __init__(self, warm: WarmMachine, place: Path, url: str) -> None:
        self.windows = warm.windows
        self.folder = warm.make_place()
        self.host = warm.open_host(self.folder)
        self.state = place / "installed.txt"
        self.state.write_text("1.0.0\n")
        versions = []
        for version in ("1.0.0", "1.1.0"):
            content = f"{version}\n".encode()
            (place / "served" / version).write_bytes(content)
            versions.append(
                ComponentVersion(version, f"{url}/{version}", digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
            )
        self.component: Component = make_component(
            "app",
            family=OsFamily.WINDOWS,
            versions=tuple(versions),
            version_command=f"if (Test-Path '{self.state}') {{ \"app version $(Get-Content '{self.state}')\" }}",
            version_pattern="version ([0-9.]+)",
            install=f"Copy-Item -LiteralPath $env:FLEETPATCH_FILE -Destination '{self.state}' -Force",
        )
        self.count = 0
        self.programs: list[Path] = []

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
    app = App(warm, tmp_path, url)
    yield app
    warm.wait_for_no_task()
    for program in app.programs:  # the next test has the same machine
        program.unlink()


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


MSI = "name=App\nversion={}\ncode={{{}}}\n{}"
CODES = {"1.0.0": "11111111-1111-1111-1111-111111111111", "1.1.0": "22222222-2222-2222-2222-222222222222"}


def make_msi(app: App, place: Path, *, more: str = "", settings: Mapping[str, str] | None = None) -> None:
    """Make the component a product of Windows Installer."""
    versions = []
    for version in app.component.versions:
        content = MSI.format(version.version, CODES[version.version], more).encode()
        (place / "served" / version.version).write_bytes(content)
        versions.append(replace(version, digest=f"sha256:{hashlib.sha256(content).hexdigest()}"))
    app.component = replace(
        app.component, kind="msi", version_command="", version_pattern="", install="", package="App",
        versions=tuple(versions), settings=settings or {},
    )  # fmt: skip


def read_product(app: App, version: str) -> dict[str, Any]:
    """Return what the registry has of a product."""
    key = rf"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\{{{CODES[version]}}}"
    values = read_state(app.windows.folder)["registry"].get(key, {"values": {}})["values"]
    return {name: value["data"] for name, value in values.items()}


def test_a_product_of_windows_installer_comes_and_the_one_before_comes_back(app: App, tmp_path: Path) -> None:
    settings = {"SERVER": 'a "b" c', "PORT": "80"}
    make_msi(app, tmp_path, settings=settings)
    assert app.read() == InstalledComponent("app")
    assert ends(app.run(JobKind.INSTALL, "1.1.0", "1.0.0")) == [(0, "")]
    assert app.read() == InstalledComponent("app", "1.0.0")
    assert ends(app.run(JobKind.INSTALL, "1.0.0", "1.1.0")) == [(0, "")]
    assert app.read() == InstalledComponent("app", "1.1.0")
    assert read_product(app, "1.1.0") == {"DisplayName": "App", "DisplayVersion": "1.1.0", **settings}
    assert ends(app.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
    assert app.read() == InstalledComponent("app", "1.0.0")
    assert read_product(app, "1.1.0") == {}


def test_windows_installer_says_that_a_reboot_is_wanted_and_none_is_done(app: App, tmp_path: Path) -> None:
    make_msi(app, tmp_path, more="reboot=yes\n")
    boot = read_state(app.windows.folder)["boot"]
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(0, "")]
    (end,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert end["reboot_required"] is True, end
    assert read_state(app.windows.folder)["boot"] == boot


def test_windows_installer_refuses_and_its_code_is_told(app: App, tmp_path: Path) -> None:
    make_msi(app, tmp_path)
    (tmp_path / "served/1.1.0").write_text("no package")
    digest = hashlib.sha256(b"no package").hexdigest()
    before, after = app.component.versions
    app.component = replace(app.component, versions=(before, replace(after, digest=f"sha256:{digest}")))
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(1620, "failed")]
    assert "msiexec.exe ended with 1620" in str(status.events[-2]["error"])


TOOL = """#!/bin/sh
printf '%s\\n' "$*" >>{log}
case " $* " in
{cases}
esac
"""


def make_tool(app: App, kind: str, path: str, cases: str) -> Path:
    """Lay a program down that notes how it was called, and make the component one of its packages. Return its notes."""
    program = app.windows.folder / "C" / path
    program.parent.mkdir(parents=True, exist_ok=True)
    app.programs.append(program)
    log = program.with_suffix(".log")
    program.write_text(TOOL.format(log=shlex.quote(str(log)), cases=cases))
    program.chmod(0o755)
    versions = tuple(replace(version, url="", digest="") for version in app.component.versions)
    app.component = replace(
        app.component, kind=kind, version_command="", version_pattern="", install="", package="Vendor.App",
        versions=versions,
    )  # fmt: skip
    return log


def test_winget_is_asked_and_told_exactly(app: App) -> None:
    cases = """*" list "*) printf 'Name   Id          Version\\n-----------\\nApp    Vendor.App  1.0.0\\n' ;;"""
    path = "Program Files/WindowsApps/Microsoft.DesktopAppInstaller_1.27.1.0_x64__8wekyb3d8bbwe/winget.exe"
    log = make_tool(app, "winget", path, cases)
    assert app.read() == InstalledComponent("app", "1.0.0")
    log.unlink()
    assert ends(app.run(JobKind.INSTALL, "1.0.0", "1.1.0")) == [(0, "")]
    assert ends(app.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
    words = "--silent --force --accept-source-agreements --accept-package-agreements --disable-interactivity"
    assert log.read_text().splitlines() == [
        f"install --id Vendor.App --exact --version 1.1.0 {words}",
        f"install --id Vendor.App --exact --version 1.0.0 {words} --uninstall-previous",
    ]


def test_chocolatey_is_asked_and_told_exactly(app: App) -> None:
    cases = """" --version ") echo 1.4.0 ;;
*" list "*) echo 'Vendor.App|1.0.0' ;;
*" 1.1.0 "*) echo broken; exit 1 ;;"""
    log = make_tool(app, "choco", "ProgramData/chocolatey/bin/choco.exe", cases)
    assert app.read() == InstalledComponent("app", "1.0.0")
    assert log.read_text().splitlines() == ["--version", "list --limit-output --exact Vendor.App --local-only"]
    log.unlink()
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(1, "failed")]
    assert "broken" in str(status.events[-2]["error"])
    assert ends(app.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
    assert log.read_text().splitlines() == [
        "upgrade Vendor.App --version 1.1.0 --yes --no-progress",
        "upgrade Vendor.App --version 1.0.0 --yes --no-progress --allow-downgrade",
    ]


@pytest.mark.parametrize("kind", ["winget", "choco"])
def test_a_machine_without_the_tool_says_so(app: App, kind: str) -> None:
    versions = tuple(replace(version, url="", digest="") for version in app.component.versions)
    app.component = replace(
        app.component, kind=kind, version_command="", version_pattern="", install="", package="Vendor.App",
        versions=versions,
    )  # fmt: skip
    assert app.read() == InstalledComponent("app")
    status = app.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(127, "failed")]
    assert f"{kind} is not on this machine" in str(status.events[-2]["error"])


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
