"""The script that installs Debian packages sees what a machine lacks."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ci import tree

SCRIPT = tree.TOP / "deployments/bootstrap/packages.sh"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH without the programs that the script installs, for a user who is not root."""
    for tool in ("bash", "readlink", "dirname", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is not there"))
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("what", "program"),
    [("prometheus", "prometheus"), ("browser", "chromium-headless-shell"), ("shells", "gawk")],
)
def test_a_program_that_is_not_there_is_noticed(bare: Path, what: str, program: str) -> None:
    said = subprocess.run([SCRIPT, what], env={"PATH": str(bare)}, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")
    assert "bootstrap: without " in said.stderr
    assert program in said.stderr.lower()


def test_a_program_that_is_there_is_not_mentioned(bare: Path) -> None:
    for program in (
        "prometheus",
        "chromium",
        "chromium-headless-shell",
        "busybox",
        "gawk",
        "mawk",
        "mksh",
        "original-awk",
        "fish",
        "zsh",
    ):
        (bare / program).symlink_to(bare / "bash")
    said = subprocess.run(
        [SCRIPT, "prometheus", "browser", "shells"],
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
