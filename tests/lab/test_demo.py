"""The first command of the README: the demonstration ends well, by the hosts' own words and by its exit code."""

import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from inventory.loader import load_inventory
from tests.ci.tree import TOP
from tests.lab import demo
from tests.lab.fleet import Flavour, Lab


def test_what_it_says_at_its_end_works_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "console", Console(width=80))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    demo.tell_how_to_apply(tmp_path / "of-another-user.yaml", unread=False)
    monkeypatch.undo()
    write, patch = (line.strip() for line in capsys.readouterr().out.splitlines()[1:])
    subprocess.run(["bash", "-c", write], env={"HOME": str(tmp_path)}, check=True)
    place = shlex.split(patch)[shlex.split(patch).index("--inventory") + 1].replace("~", str(tmp_path))
    (machine,) = load_inventory(Path(place)).machines
    assert (machine.transport, machine.privilege) == ("local", "auto")


@dataclass
class Host:
    """What the demonstration asks a machine: before its run, and after it."""

    flavour: Flavour
    answers: list[tuple[int, str]]
    address: str = "192.0.2.1"

    @property
    def name(self) -> str:
        return f"lab-{demo.FAMILIES.index(self.flavour) + 1}"

    def pending_security(self) -> int:
        return self.answers[0][0]

    def boot_id(self) -> str:
        return self.answers.pop(0)[1]

    def sh(self, command: str, root: bool = False) -> str:
        """It needs a package. A machine that lacks updates also runs old files."""
        return f"{self.answers[0][0]}\n"


class StandInLab:
    """Boots machines that answer so."""

    def __init__(self, after: dict[str, tuple[int, str]]) -> None:
        self.hosts = {name: Host(name, [(3, "first"), after[name]]) for name in demo.FAMILIES}

    def up(self, count: int, flavour: Flavour) -> list[Host]:
        return [self.hosts[flavour]]

    def down(self) -> None:
        """Nothing is up."""

    def script(self, *words: str, timeout: float) -> None:
        assert words == ("build",)

    def inventory_text(self) -> str:
        return "machines: []\n"


WELL = {"apt": (0, "first"), "dnf": (0, "second"), "zypper": (0, "first")}
UNWELL = {"apt": (2, "first"), "dnf": (0, "first"), "zypper": (0, "second")}


@pytest.mark.parametrize(
    ("after", "code", "faults"),
    [
        (WELL, 0, []),
        (WELL, 3, ["fleetpatch ended with exit code 3"]),
        (
            UNWELL,
            0,
            [
                "lab-1 still lacks 2 security updates",
                "lab-1 still runs replaced files in 2 processes",
                "lab-2 was not rebooted",
                "lab-3 was rebooted unasked",
            ],
        ),
    ],
)
def test_it_ends_well_only_if_the_machines_and_the_command_say_so(
    after: dict[str, tuple[int, str]],
    code: int,
    faults: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "PLACE", tmp_path)
    monkeypatch.setattr(demo, "console", Console(width=200))
    monkeypatch.setattr(demo, "serve_pages", lambda inventory, keep: nullcontext())

    def write_report(*words: str) -> int:
        folder = Path(words[words.index("--report") + 1]) / "run"
        folder.mkdir()
        (folder / "report.html").touch()
        return code

    monkeypatch.setattr(demo, "fleetpatch", write_report)

    ended = demo.patch_the_lab(cast("Lab", StandInLab(after)), keep=False)

    told = capsys.readouterr().out
    assert [line.removeprefix("✗ ") for line in told.splitlines() if line.startswith("✗ ")] == faults
    assert (ended, "✓ Every security update is installed" in told) == (min(len(faults), 1), not faults)


@pytest.mark.slow
def test_the_demonstration_ends_well(lab: Lab) -> None:  # the fixture says why it can't run where it can't
    command = [sys.executable, "-m", "tests.lab.demo"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"✓ Every security update is installed and in effect. Rebooted: (lab-1, )?lab-2\.", done.stdout)
    pages = re.search(r"Pages: (http://127\.0\.0\.1:\d+)", done.stdout)
    assert pages is not None
    with pytest.raises(urllib.error.URLError):  # they end with it
        urllib.request.urlopen(pages[1], timeout=5)
