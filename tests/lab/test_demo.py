"""The first command of the README: the demonstration ends well, by the hosts' own words and by its exit code."""

import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

from inventory.loader import load_inventory
from tests.ci.tree import TOP
from tests.lab import demo
from tests.lab.fleet import Lab


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


@pytest.mark.slow
def test_the_demonstration_ends_well(lab: Lab) -> None:  # the fixture says why it can't run where it can't
    command = [sys.executable, "-m", "tests.lab.demo"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "✓ Every security update is installed, and only lab-2 was rebooted." in done.stdout
    pages = re.search(r"Pages: (http://127\.0\.0\.1:\d+)", done.stdout)
    assert pages is not None
    with pytest.raises(urllib.error.URLError):  # they end with it
        urllib.request.urlopen(pages[1], timeout=5)
