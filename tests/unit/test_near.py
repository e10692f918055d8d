"""The choice of the tests that are near to a change."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import conftest
from tests.ci import near, tree
from tests.ci.costs import FileCost, read_costs
from tests.ci.near import START_SECONDS, Machine, NearTest, choose_tests, measure_distances
from tests.ci.references import References
from tests.conftest import SPREAD

FLOWS = tuple(tree.name(path) for path in sorted((tree.TOP / "tests/flows").glob("test_*.py")))
FILES = (*FLOWS[:6], SPREAD[0], *"abcdef")
SECONDS = st.floats(0, 200)
COSTS = st.dictionaries(st.sampled_from(FILES), st.builds(FileCost, SECONDS, SECONDS, st.integers(0, 30)))
DISTANCES = st.dictionaries(st.sampled_from(FILES), st.integers(0, 4), min_size=1)
MACHINES = st.builds(Machine, st.integers(1, 8), st.integers(1, 8))
NODES = st.integers(0, 9)


@given(referrers=st.dictionaries(NODES, st.sets(NODES)), changed=st.sets(NODES))
def test_a_distance_is_one_more_than_that_of_the_nearest_file_referred_to(referrers, changed):
    graph = {str(file): [str(user) for user in users] for file, users in referrers.items()}
    distances = measure_distances(map(str, changed), lambda file: graph.get(file, ()))
    assert {file for file, distance in distances.items() if distance == 0} == set(map(str, changed))
    for file in map(str, range(10)):
        named = [distances[other] for other, users in graph.items() if file in users and other in distances]
        if file not in distances:
            assert not named
        elif distances[file]:
            assert distances[file] == min(named) + 1


@given(distances=DISTANCES, costs=COSTS, seconds=SECONDS, machine=MACHINES)
def test_what_is_taken_stays_within_the_seconds_unless_one_file_alone_does_not(distances, costs, seconds, machine):
    choice = choose_tests(distances, costs, seconds, machine.estimate_seconds)
    assert choice.seconds <= seconds or len(choice.taken) == 1
    assert choice.seconds == machine.estimate_seconds(choice.taken)
    assert sorted(test.file for test in (*choice.taken, *choice.left_out)) == sorted(distances)


@given(distances=DISTANCES, costs=COSTS, seconds=SECONDS, machine=MACHINES)
def test_nothing_is_left_out_for_what_is_farther_unless_it_does_not_fit(distances, costs, seconds, machine):
    choice = choose_tests(distances, costs, seconds, machine.estimate_seconds)
    for test in choice.left_out:
        nearer = [taken for taken in choice.taken if taken.distance <= test.distance]
        assert nearer
        assert machine.estimate_seconds([*nearer, test]) > seconds


@given(distances=DISTANCES, costs=COSTS, seconds=SECONDS, machine=MACHINES)
def test_the_nearest_and_cheapest_is_first(distances, costs, seconds, machine):
    taken = choose_tests(distances, costs, seconds, machine.estimate_seconds).taken
    assert [test.distance for test in taken] == sorted(test.distance for test in taken)
    nearest = [file for file in distances if distances[file] == min(distances.values())]
    assert taken[0].file in nearest
    assert taken[0].cost.wall == min(costs.get(file, FileCost()).wall for file in nearest)


@given(distances=DISTANCES, costs=COSTS, machine=MACHINES)
def test_one_more_file_never_takes_less_time(distances, costs, machine):
    *others, last = [NearTest(file, distance, costs.get(file, FileCost())) for file, distance in distances.items()]
    assert machine.estimate_seconds([*others, last]) >= machine.estimate_seconds(others) >= START_SECONDS


@pytest.mark.parametrize(
    ("costs", "seconds"),
    [
        ({"a": FileCost(20), "b": FileCost(20), "c": FileCost(20)}, 30),  # the cores
        ({"a": FileCost(10), "b": FileCost(0, 30)}, 30),  # the longest file
        ({"a": FileCost(0, 40), "b": FileCost(0, 40), "c": FileCost(0, 40)}, 60),  # two at a time
        ({SPREAD[0]: FileCost(1, 39, 2)}, 20),  # each test by itself
        ({}, 0),
    ],
)
def test_the_estimate_is_what_the_busiest_part_of_the_machine_needs(costs: Mapping[str, FileCost], seconds: float):
    tests = [NearTest(file, 1, cost) for file, cost in costs.items()]
    assert Machine(cores=2, jobs=2).estimate_seconds(tests) == START_SECONDS + seconds


def test_files_that_share_a_prefect_server_run_one_after_the_other():
    tests = [NearTest(file, 1, FileCost(0, 9)) for file in FLOWS]
    busiest = Counter(conftest._find_scope(file) for file in FLOWS).most_common(1)[0][1]
    assert busiest > 1
    assert Machine(cores=2, jobs=99).estimate_seconds(tests) == START_SECONDS + 9 * busiest


def test_a_file_without_a_row_counts_as_one_second():
    test = choose_tests({"a": 1}, {}, 99, Machine(1, 1).estimate_seconds).taken[0]
    assert test.cost == FileCost(processor=1, waiting=0)


def test_the_table_of_costs_is_read(tmp_path: Path):
    table = tmp_path / "costs.json"
    assert read_costs(table) == {}
    table.write_text(json.dumps({"tests/unit/test_x.py": [1.5, 2, 3]}), encoding="utf-8")
    assert read_costs(table) == {"tests/unit/test_x.py": FileCost(1.5, 2.0, 3)}


def test_the_costs_of_this_checkout_are_readable():
    assert all(cost.wall >= 0 for cost in read_costs().values())


def test_what_is_left_out_is_named():
    costs = {f"tests/test_{number}.py": FileCost(number) for number in range(30)}
    choice = choose_tests(dict.fromkeys(costs, 2), costs, START_SECONDS + 11, Machine(1, 9).estimate_seconds)
    lines = near.build_lines(choice, 23, complete=False)
    assert lines[:3] == [
        "near: 5 of 30 near test files, about 22 s of 23 s",
        "near: 5 with distance 2",
        "near: left out for time: 25 files; the nearest:",
    ]
    assert lines[3:] == [f"   2 {number:7.1f} s  tests/test_{number}.py" for number in range(5, 15)]


def test_one_file_that_takes_too_long_is_said_to():
    choice = choose_tests({"a": 0}, {"a": FileCost(300)}, 150, Machine(1, 1).estimate_seconds)
    assert "near: the nearest file alone takes longer" in near.build_lines(choice, 150, complete=True)


Change = Callable[..., None]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Let files be what changed, in a checkout of a program and its test."""
    texts = {"tests/ci/near.py": "", "tests/unit/test_near.py": "from tests.ci.near import main"}

    def say(*files: str) -> None:
        monkeypatch.setattr(near, "find_change", lambda since: (since or "HEAD", list(files)))
        monkeypatch.setattr(near, "read_references", lambda changed: References(texts, {*texts, *changed}, ()))

    return say


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int, float, list[str]]]:
    """What pytest is asked for."""
    runs: list[tuple[list[str], int, float, list[str]]] = []
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    monkeypatch.setattr(near, "run_tests", lambda *words: runs.append(words))
    return runs


def test_near_tests_run_with_the_words_for_pytest(change, runs, capsys):
    change("tests/ci/near.py", ".editorconfig")
    assert near.main(["--since", "v1", "-x", "-k", "not slow"]) == 0
    assert runs == [(["tests/unit/test_near.py"], 7, 1150.0, ["-x", "-k", "not slow"])]
    assert capsys.readouterr().out.splitlines()[:4] == [
        "near: this checkout compared with v1: 2 files changed",
        "  tests/ci/near.py",
        "  .editorconfig",
        "near: nothing is near .editorconfig: only the whole run tests it",
    ]


def test_a_list_runs_nothing(change, runs, capsys):
    change("tests/ci/near.py")
    assert near.main(["--list"]) == 0
    assert runs == []
    assert re.search(r"^   1 +[\d.]+ s  tests/unit/test_near\.py$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("files", [[], [".editorconfig"], ["tests/unit/test_gone.py"], ["tests/lab/test_automatic.py"]])
def test_it_is_said_that_nothing_is_near(change, runs, capsys, files):
    change(*files)
    assert near.main([]) == 5
    assert runs == []
    assert "no test is near, and none was run" in capsys.readouterr().out


def test_as_many_processes_run_as_for_all_tests():
    (jobs,) = re.findall(r"^JOBS \?= (\d+)$", (tree.TOP / "Makefile").read_text(), re.MULTILINE)
    assert near._parse([])[0].jobs == int(jobs)


@pytest.mark.slow
def test_a_script_of_this_checkout_is_near_to_its_own_test(monkeypatch, capsys):
    script = "tasks/machines/managers/apt/scripts/apt_job.sh"
    monkeypatch.setattr(near, "find_change", lambda since: ("HEAD", [script]))
    assert near.main(["--list", "--seconds", "10000"]) == 0
    assert re.search(r"^   1 +[\d.]+ s  tests/contract/test_apt_job_script\.py$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_a_change_is_what_is_uncommitted_or_the_last_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def git(*words: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit(file: str) -> None:
        (tmp_path / file).write_text(file)
        git("add", file)
        git("commit", "-m", file)

    monkeypatch.setattr(near, "TOP", tmp_path)
    git("init")
    for file in ("first", "second", "third"):
        commit(file)
    assert near.find_change(None) == ("HEAD~1", ["third"])
    assert near.find_change("HEAD~2") == ("HEAD~2", ["second", "third"])
    git("mv", "first", "moved")
    assert near.find_change(None) == ("HEAD", ["first", "moved"])
    (tmp_path / "naïve name").touch()
    assert near.find_change(None) == ("HEAD", ["first", "moved", "naïve name"])
    assert near.find_change("HEAD~1") == ("HEAD~1", ["first", "moved", "naïve name", "third"])
    with pytest.raises(SystemExit, match="nowhere"):
        near.find_change("nowhere")
