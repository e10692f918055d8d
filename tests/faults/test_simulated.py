"""A fixed share of the soak at every run of the tests: the same schedules, every time."""

import os
import subprocess
import sys

import pytest

from tests.ci.tree import TOP
from tests.faults import hub
from tests.faults.__main__ import table
from tests.faults.dice import roll
from tests.faults.matrix import read_found_mutants
from tests.faults.simulated import play, soak
from tests.faults.site_mutations import SITE_MUTANTS
from tests.faults.sites import play_site_case
from tests.faults.test_mutations import FEW_TURNS

REPLAY = """
from tests.faults.__main__ import table
from tests.faults.simulated import soak
figures = soak("again", range(3))
figures.seconds = 0.0  # of the wall; all else is of the seed
print(table(figures))
"""
CASES = (*range(60), 271)  # in the last one a controller dies in a reboot; `make soak` plays 20,000


@pytest.mark.slow
def test_no_schedule_that_finds_a_broken_law_finds_one_in_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TURNS_AT_MOST", FEW_TURNS)
    cases = sorted({found["case"] for name, found in read_found_mutants().items() if name not in SITE_MUTANTS})
    site_cases = sorted({found["case"] for name, found in read_found_mutants().items() if name in SITE_MUTANTS})

    figures = soak("mut", cases)
    site_figures = soak("mut", site_cases, play_case=play_site_case)

    assert figures.violations == {}, table(figures)
    assert figures.cases == len(cases)
    assert site_figures.violations == {}, table(site_figures)
    assert site_figures.cases == len(site_cases) >= 4


@pytest.mark.slow
def test_no_schedule_of_faults_breaks_a_promise() -> None:
    figures = soak("tests", CASES)

    assert figures.violations == {}, table(figures)
    assert figures.cases == len(CASES)
    assert {"assess", "precheck", "install", "reboot", "validate"} <= set(figures.deaths)
    assert {"Succeeded", "CompletedWithWarnings", "Failed", "NotStarted"} == set(figures.outcomes)


@pytest.mark.slow
def test_no_schedule_of_faults_breaks_a_promise_at_several_sites() -> None:
    figures = soak("sites", range(30), play_case=play_site_case)

    assert figures.violations == {}, table(figures)
    assert {"site cut off", "Prefect away", "controller killed"} <= {kind for kind, _ in figures.faults}
    assert {"Succeeded", "CompletedWithWarnings", "Failed", "NotStarted"} <= set(figures.outcomes)


def test_a_seed_replays_the_same_schedule() -> None:
    def story(number: int) -> object:
        world = play(roll("again", number))
        machines = [(m.orders.jobs, m.orders.reboots, m.world.shelf.configured) for m in world.machines.values()]
        return world.hub.now, world.hub.turns, world.calls, world.struck, machines

    assert [story(number) for number in range(8)] == [story(number) for number in range(8)]


def test_another_process_replays_it_too() -> None:
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", REPLAY],
        cwd=TOP,
        env={**os.environ, "PYTHONHASHSEED": other},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    figures = soak("again", range(3))
    figures.seconds = 0.0
    assert "cases               3 with" in done.stdout
    assert done.stdout == f"{table(figures)}\n"
