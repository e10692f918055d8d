"""The stand-ins note which statements of scripts were executed, if they are told where to."""

import threading
from pathlib import Path

import pytest

from tests.ci.powershell_coverage import map_hits
from tests.lab.windows.powershell_process import COVERAGE
from tests.lab.windows.running import MakeMachine, run

SCRIPT = Path("it.ps1")
TEXT = """\
function Get-It {
    param([string] $Name)
    if ($Name) { return "it is $Name" }
    throw 'no name'
}
try {
    Get-It -Name (Write-Output -InputObject '')
} catch {
    Write-Debug -Message 'shown to nobody'
    $DebugPreference = 'Continue'
    Write-Debug -Message 'shown'
}
switch ('a') {
    'a' { 'first' }
    'b' { 'second' }
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where executed statements are noted."""
    folder = tmp_path / "executed"
    folder.mkdir()
    monkeypatch.setenv(COVERAGE, str(folder))
    return folder


def executed(folder: Path) -> set[int]:
    """Return the lines of TEXT in which a statement began."""
    (starts,) = map_hits(folder, {SCRIPT: TEXT}).values()
    return {TEXT.count("\n", 0, start) + 1 for start in starts}


def test_statements_are_noted_and_nothing_of_it_is_seen(folder: Path, make_machine: MakeMachine) -> None:
    assert run(make_machine(), f"'before'\n{TEXT}") == ["before", "DEBUG: shown", "first"]

    assert {3, 4, 7, 9, 10, 11, 13, 14} <= executed(folder)
    starts = map_hits(folder, {SCRIPT: TEXT})[SCRIPT]
    assert TEXT.index("$Name) {") in starts
    assert TEXT.index('"it is') not in starts
    assert TEXT.index("'first'") in starts
    assert TEXT.index("'second'") not in starts


def test_a_machine_that_loses_its_power_has_noted_all_before(folder: Path, make_machine: MakeMachine) -> None:
    endless = f"{TEXT}[System.Console]::Out.WriteLine('now'); while ($true) {{ }}"
    for _ in range(2):
        machine, began = make_machine(), threading.Event()

        def listen(_: str, data: bytes, began: threading.Event = began) -> None:
            if b"now" in data:
                began.set()

        call = machine.powershell.call(["-Command", endless], on_output=listen)
        assert began.wait(60)
        machine.power_cut(and_on=False)
        assert call.wait(30) is None

    assert len(list(folder.glob("*.hits"))) == 2
    assert {3, 7, 11, 14} <= executed(folder)


def test_without_the_variable_nothing_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_machine: MakeMachine
) -> None:
    monkeypatch.delenv(COVERAGE, raising=False)
    assert run(make_machine(), "[FleetPatch.StandIns.Coverage]::IsOn") == ["False"]
    assert not list(tmp_path.rglob("*.hits"))
