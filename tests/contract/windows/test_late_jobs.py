"""Jobs of Windows that begin late: what was refused never begins, and what has begun is told so."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.transport import JobPhase
from tasks.machines.transport.script_library import load_windows_script
from tasks.steps.jobs.package_job import SUBMIT_TIMEOUT_SECONDS
from tests.contract.windows.job_places import Place, cut_start, wait
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.scenario import Scenario

NEVER = r"it did not begin when it was handed over, so it never begins"


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    warm.wait_for_no_task()


def test_a_job_that_was_refused_never_begins(place: Place) -> None:
    place.is_held_up, place.patience = True, 1
    with pytest.raises(ScriptFailed, match=NEVER):
        place.start()
    place.run_task()
    assert not (place.job() / "events").exists()
    assert place.phase() is JobPhase.ABSENT
    place.is_held_up = False
    with pytest.raises(ScriptFailed, match=NEVER):
        place.start()
    assert place.start("two").attached is False
    assert place.ended("two").exit_code == 5


def test_whoever_submits_a_job_waits_longer_than_the_machine_does() -> None:
    (patience,) = re.findall(r"^\$patience = (\d+)", load_windows_script("job_start"), re.MULTILINE)
    assert int(patience) + 60 < SUBMIT_TIMEOUT_SECONDS


def test_why_its_task_did_not_run_is_told(place: Place) -> None:
    place.is_held_up, place.patience = True, 1
    with pytest.raises(ScriptFailed, match=r"its task has state \d and last result 0x"):
        place.start()


def test_a_job_whose_start_is_held_up_hears_that_it_is_to_stop(place: Place) -> None:
    place.is_held_up = True
    with cut_start(place):
        told = place.stop()
        assert (told["phase"], told["asked"]) == ("absent", True)
    place.run_task()


def test_a_start_whose_connection_was_lost_may_begin_late(place: Place) -> None:
    with cut_start(place):
        pass
    assert place.phase() is JobPhase.ABSENT
    place.run_task()
    assert place.ended().exit_code == 5


def test_it_does_not_begin_after_a_later_attempt(place: Place) -> None:
    with cut_start(place):
        pass
    assert place.take_lock(attempt=2)["kind"] == "locked"
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "its attempt 2 has the lock, and this order is of attempt 1" in place.note()
    assert not (place.job() / "events").exists()


def test_it_does_not_begin_after_another_run_has_the_machine(place: Place) -> None:
    with cut_start(place):
        pass
    place.take_lock(release="yes")
    place.take_lock("other")
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "run other (anne) has it" in place.note()


def test_it_does_not_begin_when_its_start_dies_just_before(place: Place, tmp_path: Path) -> None:
    """Between the job's look at its start and its meta.json, the start dies and a later attempt comes."""
    here, gate, mark = tmp_path / "here", tmp_path / "gate", "if (-not (Add-FpOwnMeta)) { return $false }"
    held = (
        f"$null = New-Item -Path '{here}'; while (-not (Test-Path -LiteralPath '{gate}')) {{ Start-Sleep -Milli 20 }}"
    )
    late = threading.Thread(target=place.run_task)
    with cut_start(place):
        text = (place.job() / "run.ps1").read_text()
        assert mark in text
        (place.job() / "run.ps1").write_text(text.replace(mark, f"{held}\n{mark}"))
        late.start()
        wait(here.exists)
    assert place.take_lock(attempt=2)["kind"] == "locked"
    gate.touch()
    late.join()
    assert place.phase() is JobPhase.ABSENT
    assert "its attempt 2 has the lock" in place.note()
    assert not (place.job() / "events").exists()


def test_it_does_not_begin_beside_another_job(place: Place, tmp_path: Path) -> None:
    with cut_start(place):
        pass
    place.is_held_up = False
    place.start("two", "waiting", gate=str(tmp_path / "gate"))
    place.begun("two")
    place.run_task()
    assert place.phase() is JobPhase.ABSENT
    assert "job two is running" in place.note()
    (tmp_path / "gate").touch()
    place.ended("two")


def test_a_later_attempt_begins_what_an_earlier_one_has_prepared(place: Place) -> None:
    with cut_start(place):
        pass
    place.is_held_up = False
    place.take_lock(attempt=2)
    assert place.start(lock_run="run", lock_attempt="2").attached is False
    assert place.ended().exit_code == 5
    place.run_task()  # of the earlier start
    assert len(place.ended().events) == 2


def test_without_a_task_scheduler_nothing_is_left_to_begin() -> None:
    with WarmMachine.opened(Scenario(task_scheduler_error=0x800706BA)) as warm:
        place = Place(warm)
        with pytest.raises(ScriptFailed, match="the task scheduler can't run it"):
            place.start()
        assert place.phase() is JobPhase.ABSENT
        assert not (place.job() / "run.ps1").exists()
