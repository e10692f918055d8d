"""The plugin that lets no test begin too late, in a pytest of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ci.latest_start import OUT_OF_TIME
from tests.ci.tree import TOP

TESTS = {
    "test_b.py": "def test_one(request): print('B')\ndef test_two(): pass\n",
    "test_a.py": "def test_one(): print('A')\n",
}
pytestmark = pytest.mark.slow  # starts programs


def run_tests(folder: Path, *words: str, tests: Mapping[str, str] = TESTS) -> tuple[int, str]:
    """Return the exit code of a pytest, and what it printed."""
    for name, text in tests.items():
        (folder / name).write_text(text)
    path = os.pathsep.join(filter(None, (str(TOP), os.environ.get("PYTHONPATH"))))
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.ci.latest_start", f"--rootdir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *words, *TESTS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["-n0", "-n2"])
def test_what_did_not_begin_is_named(tmp_path: Path, pool: str) -> None:
    code, printed = run_tests(tmp_path, pool, f"--end={time.time():.0f}")
    assert "out of time: 3 tests did not begin, so nothing is known of them:" in printed
    assert "    1  test_a.py\n    2  test_b.py\n" in printed
    assert "passed" not in printed
    assert code == OUT_OF_TIME


def test_once_it_is_too_late_nothing_else_begins(tmp_path: Path) -> None:
    """Also what pytest had set up for the next test of the file is taken down, at the end."""
    late = {"test_b.py": TESTS["test_b.py"].replace("print('B')", "request.config.option.end = 0.0")}
    code, printed = run_tests(tmp_path, "-n0", tests=TESTS | late)
    assert "1 passed" in printed
    assert "error" not in printed
    assert "out of time: 2 tests did not begin" in printed
    assert code == OUT_OF_TIME


@pytest.mark.parametrize("pool", ["-n0", "-n2"])
def test_all_begin_in_time(tmp_path: Path, pool: str) -> None:
    code, printed = run_tests(tmp_path, pool, f"--end={time.time() + 600:.0f}")
    assert "3 passed" in printed
    assert "out of time" not in printed
    assert code == 0


def test_files_keep_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    _, printed = run_tests(tmp_path, "-n0", "-s")
    assert printed.index("B") < printed.index("A")
