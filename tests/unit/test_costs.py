"""What the tests cost: the tables, and the measurement of a test that computes, waits and fails."""

import json
import os
from pathlib import Path

import pytest

from tests.ci import costs
from tests.ci.costs import (
    FileCost,
    Measurements,
    build_pool_table,
    build_summary,
    build_table,
    compare_machines,
    find_folder,
)
from tests.ci.meter import Meter, PoolProcess, TestCost

TESTS = [
    TestCost("tests/unit/test_a.py::test_x", "gw0", began=100.0, wall=2.0, processor=0.5, stalled=0.5),
    TestCost("tests/unit/test_a.py::test_y[1]", "gw0", began=103.0, wall=1.0, processor=3.0, stalled=0.0),
    TestCost("tests/lab/test_b.py::test_z", "gw1", began=100.0, wall=10.0, processor=1.0, stalled=2.0),
]
PROCESSES = [PoolProcess("gw0", 99.0, 104.0, grouped=True), PoolProcess("gw1", 98.0, 110.0, grouped=True)]


def test_waiting_is_the_rest_and_never_negative() -> None:
    assert [cost.waiting for cost in TESTS] == [1.0, 0.0, 7.0]


def test_the_dearest_group_is_first_and_the_rest_is_counted() -> None:
    lines = build_table(TESTS, find_folder, 1)
    assert lines[1].split() == ["10.0", "1.0", "2.0", "7.0", "1", "tests/lab"]
    assert lines[2] == "(and 1 more)"


def test_a_process_of_the_pool_is_told_with_its_idle_times() -> None:
    lines = build_pool_table(Measurements(TESTS, PROCESSES, []))
    assert lines[1].split()[:5] == ["5.0", "3.0", "1.0", "1.0", "6.0"]  # there, tests, start, between, at end
    assert lines[2].split()[:5] == ["12.0", "10.0", "2.0", "0.0", "0.0"]


@pytest.mark.parametrize("grouped", [True, False])
def test_the_summary_says_whether_all_processes_were_counted(*, grouped: bool) -> None:
    summary = build_summary(Measurements(TESTS, [PoolProcess("gw0", 99.0, 104.0, grouped=grouped)], []))
    assert "3 tests in 10 s; processor time of the tests 4 s" in summary
    assert ("no control groups" in summary) is not grouped


def test_what_is_saved_is_one_line_for_each_dear_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "DEAR_SECONDS", 5.0)
    costs.save(costs.sum_files(TESTS), 0.25, tmp_path / "costs.json")
    assert json.loads((tmp_path / "costs.json").read_text()) == {
        "tests/lab/test_b.py": [4, 7, 1], "tests/unit/test_a.py": [14, 1, 2],
    }  # fmt: skip


def test_a_slow_machine_is_told_from_tests_that_became_dearer() -> None:
    saved = {f"tests/test_{number}.py": FileCost(10.0, 0.0, 4) for number in range(11)}
    measured = {file: FileCost(20.0, 5.0, 4) for file in saved}
    measured["tests/test_0.py"] = FileCost(900.0, 0.0, 4)
    assert compare_machines(measured, saved) == 2.0
    for number in range(2):
        measured[f"tests/test_{number}.py"] = FileCost(20.0, 5.0, 5)  # has another test now: says nothing
    assert compare_machines(measured, saved) is None
    assert compare_machines(measured, {}) is None


def test_a_folder_without_measurements_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"-p tests\.ci\.meter"):
        Measurements.read(tmp_path)


@pytest.mark.slow
def test_a_group_counts_processes_that_have_ended() -> None:
    pid = os.fork()
    if pid == 0:  # a process of its own enters the group
        meter = Meter(f"fleetpatch-test-{os.getpid()}")
        before = meter.processor()
        child = os.fork()
        if child == 0:
            sum(range(3_000_000))
            os._exit(0)
        os.waitpid(child, 0)
        used = meter.processor() - before
        meter.close()
        os._exit(0 if used > 0.01 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
