"""Builds the wheel from a copy of the checkout, in which nothing may be left."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.ci import tree


def build_wheel(work: Path) -> Path:
    """Return the wheel, which is built below an empty folder."""
    for path in tree.files():
        if tree.name(path).split("/")[0] != "tests":
            target = work / "checkout" / tree.name(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work / "dist")],
        cwd=work / "checkout", capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return next((work / "dist").glob("*.whl"))
