"""What the workflow for a hosted Windows runner does there, on a Windows machine of the tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci import tree
from tests.lab.windows.certificates import Authority
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.scenario import Scenario, Update
from tests.lab.windows.served_machine import ServedMachine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_powershell() is None, reason="there is no PowerShell here"),
]
FIRST = Update("11111111-1111-4111-8111-111111111111", title="2026-11 Cumulative Update (KB5050001)", kbs=("5050001",))

DEFINITIONS = Update(
    "22222222-2222-4222-8222-222222222222",
    title="Security Intelligence Update for Microsoft Defender Antivirus - KB2267602 (Version 1.441.1.0)",
    kbs=("2267602",),
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedMachine]:
    authority = Authority(tmp_path)
    with ServedMachine(tmp_path / "machine", Scenario(updates=(FIRST, DEFINITIONS)), authority=authority) as it:
        yield it


def run(served: ServedMachine, home: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    host = served.host
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree.TOP),
        "HOME": str(home),
        "WINDOWS_ADDRESS": host.address,
        "WINDOWS_PORT": str(host.https_port),
        "WINDOWS_USER": host.user,
        "WINDOWS_PASSWORD": host.password,
        "WINDOWS_THUMBPRINT": host.certificate.sha256,
        **changes,
    }
    script = tree.TOP / "tests/ci/windows_loopback.sh"
    return subprocess.run(
        [script], env=environment, capture_output=True, text=True, check=False, timeout=240, stdin=subprocess.DEVNULL
    )


def test_it_looks_over_the_network_and_as_system_and_installs_only_what_is_named(
    served: ServedMachine, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    done = run(served, tmp_path, WINDOWS_INSTALL="KB9999999 KB2267602", WINDOWS_OUTPUT=str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 updates over the network, 2 as SYSTEM" in done.stdout
    assert "KB5050001" in done.stdout
    looked, _, installed = done.stdout.partition("NOT INSTALLED: KB9999999 is not offered")
    assert "INSTALLED:" not in looked
    assert "\nINSTALLED: KB2267602" in installed
    state = served.machine.read_state()
    assert [entry["id"] for entry in state["journal"] if entry["what"] == "install"] == [DEFINITIONS.id]
    assert state["last_installation"] is not None
    assert not state["tasks"]
    assert not served.machine.stand_in_errors()
    assert (output / "output.txt").read_text() == done.stdout
    assert (output / "recording/bundle.json").exists()
    nothing = run(served, tmp_path, WINDOWS_INSTALL="KB9999999")
    assert nothing.returncode == 1
    assert "NOTHING WAS INSTALLED" in nothing.stdout


def test_it_fails_for_a_machine_that_is_not_the_pinned_one(served: ServedMachine, tmp_path: Path) -> None:
    done = run(served, tmp_path, WINDOWS_THUMBPRINT="0" * 64)
    assert done.returncode == 1
    assert "not the pinned one" in done.stdout + done.stderr
