"""A fixed share of the soak at every run of the tests: the same schedules, every time."""

import os
import subprocess
import sys

import pytest

from tests.ci.tree import TOP
from tests.faults.__main__ import table
from tests.faults.dice import roll
from tests.faults.simulated import play, soak

CASES = 2000 if os.environ.get("CI") == "true" else 200


@pytest.mark.slow
def test_no_schedule_of_faults_breaks_a_promise() -> None:
    figures = soak("tests", range(CASES))

    assert figures.violations == {}, table(figures)
    assert figures.cases == CASES
    assert {"assess", "precheck", "install", "reboot", "validate"} <= set(figures.deaths)
    assert {"Succeeded", "CompletedWithWarnings", "Failed", "NotStarted"} == set(figures.outcomes)


def test_a_seed_replays_the_very_same_schedule() -> None:
    def story(number: int) -> object:
        world = play(roll("again", number))
        machines = [(m.orders.jobs, m.orders.reboots, m.world.shelf.configured) for m in world.machines.values()]
        return world.hub.now, world.hub.turns, world.calls, world.struck, machines

    assert [story(number) for number in range(8)] == [story(number) for number in range(8)]


def test_another_process_replays_it_too() -> None:
    def told(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.faults", "--seed", "again", "--cases", "15"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        figures = done.stdout.partition("\ncases ")[2]  # what stands before is told now and then, as time passes
        return "\n".join(line for line in figures.splitlines() if not line.startswith("wall time"))

    assert told("1") == told("2")
