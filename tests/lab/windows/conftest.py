"""Windows machines for tests of their stand-ins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.running import CATALOGUE, MakeMachine
from tests.lab.windows.scenario import Scenario


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[MakeMachine]:
    """`make_machine(Scenario(...))` is a machine that is on; it is gone after the test."""
    if find_powershell() is None:
        pytest.skip("PowerShell (pwsh) is not on PATH")
    made: list[WindowsMachine] = []

    def make(scenario: Scenario | None = None) -> WindowsMachine:
        made.append(WindowsMachine(tmp_path / f"machine{len(made)}", scenario or Scenario()))
        made[-1].start()
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def machine(make_machine: MakeMachine) -> WindowsMachine:
    """An idle machine."""
    return make_machine()


@pytest.fixture(scope="module")
def shared_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsMachine]:
    """A machine for tests that change nothing on it, with the updates of ``CATALOGUE``."""
    if find_powershell() is None:
        pytest.skip("PowerShell (pwsh) is not on PATH")
    machine = WindowsMachine(tmp_path_factory.mktemp("shared") / "machine", Scenario(updates=CATALOGUE))
    machine.start()
    yield machine
    machine.close()
