"""The measuring itself: that nothing a command starts goes uncounted, and that ratios are of what they say."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import scale, where
from tests.bench.contenders import Contender, require_own_modules
from tests.bench.costs import TOP, Cost, Goal, judge, measure, table
from tests.bench.read_verbs import describe_slow
from tests.bench.windows import count_busiest_second
from tests.bench.windows import table as windows_table
from tests.lab.process_accounting import EndedProcess, count_starts, describe_processes, list_own_processes
from tests.support import prefect_forks
from tests.support.environment import TEST_RUN_VARIABLE

_BURN = "import time\nwhile time.process_time() < 0.3: pass"


def _measured(tmp_path: Path, *command: str, memory: bool = False) -> dict[str, float]:
    words = [
        sys.executable,
        "-m",
        "tests.bench.measure",
        *(["--memory"] if memory else []),
        str(tmp_path / "out"),
        *command,
    ]
    return dict(json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout))


def test_cpu_of_grandchildren_counts(tmp_path: Path) -> None:
    cost = _measured(tmp_path, "sh", "-c", f"'{sys.executable}' -c '{_BURN}'; true")
    assert 0.3 <= cost["cpu"] < 5
    assert cost["exit_code"] == 0


def test_what_is_left_behind_is_ended_and_counts_but_not_in_wall_time(tmp_path: Path) -> None:
    worker = f"{_BURN}\nopen('{tmp_path}/burnt', 'w').close()\ntime.sleep(600)"
    script = f"setsid '{sys.executable}' -c \"$0\" & while ! [ -e '{tmp_path}/burnt' ]; do sleep 0.05; done"
    cost = _measured(tmp_path, "sh", "-c", script, worker)
    assert cost["cpu"] >= 0.3
    assert cost["wall"] < 60


def test_memory_is_that_of_the_tree(tmp_path: Path) -> None:
    big = "import time; x = bytearray(50_000_000); time.sleep(1)"
    cost = _measured(
        tmp_path, "sh", "-c", f"'{sys.executable}' -c '{big}' & '{sys.executable}' -c '{big}'; wait", memory=True
    )
    assert 95 < cost["peak"] < 250


def test_threads_and_connections_are_those_of_the_tree(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        lines = [
            "import socket, threading, time",
            f"one = socket.create_connection({server.getsockname()!r})",
            "same = one.dup()",
            "for _ in range(3): threading.Thread(target=time.sleep, args=(1,)).start()",
        ]
        script = "; ".join(lines[:-1]) + f"\n{lines[-1]}"
        cost = _measured(tmp_path, sys.executable, "-c", script, memory=True)
    assert cost["connections"] == 1
    assert cost["threads"] == 4


def test_an_incomplete_answer_is_no_measurement() -> None:
    short = Contender("short", ("echo", "one"), lambda printed: len(printed.read_text().splitlines()))
    assert measure(short, 1).wall > 0
    with pytest.raises(RuntimeError, match="1 of 2 machines answered"):
        measure(short, 2)
    with pytest.raises(RuntimeError, match="exit 1, 0 of 1"):
        measure(Contender("failing", ("false",), lambda _: 1), 1)


def test_the_table_has_medians_spread_and_ratios_and_goals_are_judged_by_medians() -> None:
    costs = {
        "a": [Cost(1, 2), Cost(3, 2), Cost(2, 2), Cost(9, 9, 50)],
        "b": [*[Cost(4, 1, machine_cpu=0.5, processes=1_900)] * 3, Cost(9, 9, 70)],
    }
    rows = table(costs, "a").splitlines()
    assert rows[2] == "| a | 2.00 (1.00-3.00) | 2.00 (2.00-2.00) | 50 | 0.00 (0.00-0.00) | 0 (0-0) | 1.00 | 1.00 |"
    assert rows[3] == (
        "| b | 4.00 (4.00-4.00) | 1.00 (1.00-1.00) | 70 | 0.50 (0.50-0.50) | 1900 (1900-1900) | 2.00 | 0.50 |"
    )
    goals = [
        Goal("b", "CPU", lambda cost: cost.cpu, "a", 0.5),
        Goal("b", "processes", lambda cost: cost.processes, "a", 500, is_difference=True),
        Goal("b", "wall", lambda cost: cost.wall, "nobody", 1.0),
    ]
    assert judge(costs, goals).splitlines() == [
        "CPU: b / a = 0.50, goal 0.5: reached",
        "processes: b - a = 1900.00, goal 500: missed",
    ]


def test_another_checkout_runs_its_own_modules(tmp_path: Path) -> None:
    require_own_modules(TOP)
    with pytest.raises(RuntimeError, match="is no checkout of fleetpatch"):
        require_own_modules(tmp_path)


def test_what_a_package_manager_starts_is_its_own() -> None:
    processes = [
        EndedProcess(*row)
        for row in (
            (10, 1, "sh", True),
            (11, 10, "sh", False),
            (12, 11, "apt-get", True),
            (13, 12, "dpkg", True),
            (14, 13, "sh", True),
            (15, 99, "awk", True),
        )
    ]
    assert [process.process_id for process in list_own_processes(processes)] == [10, 11, 12, 15]
    assert count_starts(processes) == {"apt-get": 1}
    assert describe_processes(processes, most=2).splitlines() == ["6 processes", "     2 sh", "     1 sh (fork)"]


def test_what_is_built_in_costs_its_callers_and_imports_are_apart() -> None:
    own, other = (str(TOP / "flows/run.py"), 1, "run"), ("/x/site-packages/rich/table.py", 1, "render")
    statistics = {
        own: (1, 1, 0.5, 9.0, {}),
        other: (1, 1, 0.25, 9.0, {}),
        ("~", 0, "<method 'join' of 'str' objects>"): (
            2,
            2,
            0.75,
            0.75,
            {own: (1, 1, 0.5, 0.5), other: (1, 1, 0.25, 0.25)},
        ),
        ("<frozen importlib._bootstrap>", 1, "_find_spec"): (1, 1, 2.0, 9.0, {}),
        ("~", 0, "<method 'execute' of 'sqlite3.Cursor' objects>"): (1, 1, 4.0, 4.0, {own: (1, 1, 4.0, 4.0)}),
    }
    assert where.sum_by_package(statistics) == {"fleetpatch": 1.0, "rich": 0.5, "imports": 2.0, "sqlite3": 4.0}


def test_a_job_is_a_row_of_its_own_beside_the_scripts_that_look_at_it() -> None:
    rows = [
        (20, 9, "awk", True),
        (31, 30, "awk", True),
        (40, 9, "rpm", True),
        (30, 1, "sh", True),
        (50, 9, "sshd", False),
    ]
    visits = [where.Visit("facts", 0, 1, 0.5, 0.75), where.Visit("job_look", 1, 4, 1.0, 2.0)]

    table_of_scripts = where.write_machine_table(visits, [EndedProcess(*row) for row in rows])

    assert table_of_scripts.splitlines()[2:] == [
        "| (a job) | 0 | 2 | 0 | 0.00 | 0.00 |",
        "| facts | 1 | 1 | 0 | 0.50 | 0.75 |",
        "| job_look | 1 | 1 | 0 | 1.00 | 2.00 |",
        "| (between scripts) | 0 | 1 | 0 | 0.00 | 0.00 |",
    ]


def test_the_table_of_windows_machines_says_what_one_more_costs() -> None:
    rows = windows_table({1: Cost(3, 1.5, 70, 5, 1), 11: Cost(9, 2.0, 75, 25, 11)}).splitlines()
    assert rows[2] == "| 1 | 3.0 | 1.50 | - | 70 | - | 5 | 1 |"
    assert rows[3] == "| 11 | 9.0 | 2.00 | 50 | 75 | 0.5 | 25 | 11 |"


def test_the_busiest_second_may_begin_anywhere() -> None:
    assert count_busiest_second([0.0, 0.6, 1.2, 1.5, 3.0]) == 3
    assert count_busiest_second([5.0]) == 1


def test_the_table_of_large_runs_has_what_prefect_lost_and_ratios() -> None:
    small = scale.Run("id", 10.0, 5.0, 300.0, 110, 501, 1_503, 100, "")
    message = "Prefect did not receive up to 1\u202f234 task runs (a, …). The records and this report are complete."
    large = scale.Run("id", 25.0, 8.0, 450.0, 112, 2_001, 6_003, 200, message)

    rows = [scale.build_row(100, small, 0.5, 501, 710), scale.build_row(200, large, 39.0, 767, 900)]

    assert scale.write_table(rows).splitlines()[2:] == [
        "| 100 | 10 | 50 | 300 | 110 | 0.5 | 501 | 501 | 0 | 1503 | 710 |",
        "| 200 | 25 | 40 | 450 | 112 | 39.0 | 2001 | 767 | up to 1\u202f234 | 6003 | 900 |",
        "",
        "200 / 100 machines: 2.50 x wall, s, 0.80 x CPU of a machine, ms, 1.50 x peak memory, MiB, 1.02 x threads",
    ]


def test_what_takes_a_second_is_named() -> None:
    assert describe_slow("pages", {"a": 0.2, "b": 0.99}) == "2 of 2 pages take less than 1 s"
    assert describe_slow("commands", {"a": 0.2, "b": 1.0, "c": 3.0}) == "1 of 3 commands take less than 1 s; not: b, c"


def test_a_benchmark_may_start_servers_outside_of_a_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TEST_RUN_VARIABLE)
    assert prefect_forks._find_folder().name == f"fleetpatch-prefect-{os.getpid()}"
