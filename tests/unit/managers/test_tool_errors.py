"""The errors in real outputs of package managers (tests/data/tool_errors)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.machines.managers.tool_errors import complete_error, describe_failure, find_tool_error
from tests.ci.tree import TOP

FOLDER = TOP / "tests/data/tool_errors"
WANTED = json.loads((FOLDER / "wanted.json").read_text())


def test_every_recording_is_read() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_the_error_is_found_in_the_output(name: str) -> None:
    assert find_tool_error((FOLDER / f"{name}.txt").read_text()) == WANTED[name]


def test_a_summary_is_told_only_where_nothing_else_is() -> None:
    assert find_tool_error("Running transaction\nError: Transaction failed\n") == "Error: Transaction failed"
    assert find_tool_error("E: Sub-process /usr/bin/dpkg returned an error code (1)\n").startswith("Sub-process")


def test_without_an_error_the_last_line_is_told_and_without_an_output_nothing() -> None:
    assert find_tool_error("a\nsh: 3: nothing: not found\n\n") == "sh: 3: nothing: not found"
    assert describe_failure("x ended with 1", "\n") == "x ended with 1"


def test_a_job_without_an_error_of_its_own_gets_what_the_tool_said() -> None:
    words = (FOLDER / "apt-unknown-group.txt").read_text()
    assert complete_error("failed: see the job's log", words) == f"failed: {WANTED['apt-unknown-group']}"
    assert complete_error("failed: see the job's log", "") == "failed: see the job's log"
    assert complete_error("lock: held", words) == "lock: held"


def test_secrets_in_an_error_are_not_told() -> None:
    assert "hunter2" not in find_tool_error("E: Failed to fetch https://me:hunter2@example.org/x  401 Unauthorized\n")


@given(st.text())
def test_any_text_gives_one_short_line(text: str) -> None:
    assert len(find_tool_error(text).splitlines()) <= 1
