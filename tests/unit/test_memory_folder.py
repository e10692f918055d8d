"""The folder in memory of a whole test run: who gets one, and that nothing is left of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.support.environment import TEST_RUN_VARIABLE
from tests.support.memory_folder import LEAST_MEMORY, read_available_memory, use_memory_folder

PROGRAM = """
import os, sys, tempfile
from tests.support.memory_folder import use_memory_folder
folder = use_memory_folder(sys.argv[1:])
if folder is not None:
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
    assert os.path.ismount(folder), folder
    assert folder.stat().st_mode & 0o7777 == 0o1777
    open(folder / "file", "w").close()
print(folder)
"""


def test_a_run_of_several_processes_has_one_until_it_ends() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in {"TMPDIR", TEST_RUN_VARIABLE}}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "-n", "5"],
        cwd=TOP, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    is_allowed = os.geteuid() == 0 and read_available_memory() >= LEAST_MEMORY
    assert (run.stdout.strip() != "None") is is_allowed
    if is_allowed:
        assert not Path(run.stdout.strip()).exists()
    assert run.stderr == ""


@pytest.mark.parametrize("variable", ["TMPDIR", TEST_RUN_VARIABLE])
def test_a_folder_that_somebody_chose_stays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    assert use_memory_folder(["-n", "5"]) is None


def test_a_run_of_one_process_leaves_its_files_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.delenv(TEST_RUN_VARIABLE)
    assert use_memory_folder(["tests/unit"]) is None
