"""The whole command over a simulated fleet, with real records in a temporary file."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import flows.composition
import flows.execution
from fleetpatch.cli.main import main
from fleetpatch.cli.runtime.output import get_stderr_console, get_stdout_console
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.recovery.unfinished_runs import find_abandoned_runs
from tasks.domain.states import Classification
from tasks.records.setup import open_records
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.mortal import Life, mortal_machine, mortal_records
from tests.support.sim_machine import SimMachine


@dataclass
class Said:
    """What the command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass
class Stage:
    """A fleet, its inventory file and its records, for the command to work on."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    fleet: SimFleet = field(default_factory=SimFleet)
    life: Life = field(default_factory=Life)
    defaults: dict[str, str] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        return self.folder / "fleet.yaml"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'records.db'}"

    def add(self, name: str, *packages: FakePackage, **described: Any) -> SimMachine:
        return self.fleet.add(name, list(packages), **described)

    def run(self, *words: str) -> Said:
        """Run the command as a person would, from its arguments to its exit code."""
        entries = [
            {
                "name": machine.name,
                "address": f"192.0.2.{number}",
                "site": machine.site,
                **({"location": machine.location} if machine.location else {}),
            }
            for number, machine in enumerate(self.fleet.described, 1)
        ]
        self.inventory.write_text(json.dumps({"defaults": self.defaults, "machines": entries}))
        self.capture.readouterr()
        if isinstance(self.fleet.clock, FakeClock):
            self.fleet.clock.advance(0.001)  # nobody types two commands at the very same moment: the latest run is one
        code = main([*words])
        return Said(code, *self.capture.readouterr())

    def ports(self, who: Caller) -> Ports:
        records = open_records(who.records_url)
        life = self.life
        return replace(
            self.fleet.ports(),
            records=mortal_records(records, life),
            leases=records.leases,
            listener=who.listener,
            stop_token=who.stop_token,
            connect=lambda machine: mortal_machine(self.fleet.machines[machine.name], life),
        )

    def left_half_way(self, *words: str, dies_at: int = 30) -> str:
        """Patch, and have the process die at one of its calls. Returns the run that nobody carries out any more."""
        self.life = Life(dies_at=dies_at)
        self.run("patch", "*", "--no-prefect", "--yes", *words)
        assert self.life.dead
        self.life = Life()
        (left,) = find_abandoned_runs(self.url)
        return left.run.id


@pytest.fixture(autouse=True)
def fresh_consoles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consoles look at their environment when they are made."""
    monkeypatch.delenv("COLUMNS", raising=False)
    get_stdout_console.cache_clear()
    get_stderr_console.cache_clear()


@pytest.fixture
def stage(
    tmp_path: Path,
    empty_records: Path,
    built_command: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Stage:
    made = Stage(tmp_path, capsys)
    shutil.copy(empty_records, tmp_path / "records.db")
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(made.inventory))
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", made.url)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    # These records need not survive a power cut, so a commit does not wait for the disk.
    monkeypatch.setattr("tasks.records.storage.database.SQLITE_SYNCHRONOUS", "OFF")
    for name in (
        "flows.recovery.unfinished_runs",
        "fleetpatch.cli.commands.fleet_status",
    ):
        monkeypatch.setattr(f"{name}.SystemClock", lambda: made.fleet.clock)
    for module in (flows.execution, flows.composition):
        monkeypatch.setattr(module, "open_ports", lambda _request, who: nullcontext(made.ports(who)))
    return made


def security(name: str, **behaviour: Any) -> FakePackage:
    """A package with a security update."""
    return FakePackage(name, classification=Classification.SECURITY, **behaviour)
