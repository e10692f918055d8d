"""clean.ps1: what fleetpatch has left on a Windows machine is removed, and nothing of others."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.steps.machine.cleaning import Remains, read_remains, remove_remains
from tests.contract.windows.job_places import Place
from tests.contract.windows.test_automatic_updates import KEY, Machine
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.state import change_state

LATER = "9999999999"


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    with change_state(warm.windows.folder) as state:
        state["shutdown"] = None
    warm.wait_for_no_task()


def look(place: Place) -> Remains:
    return read_remains("here", place.host, CLOCK, "")


def remove(place: Place, seen: Remains) -> Remains:
    return remove_remains("here", seen, place.host, CLOCK, "")


def take_lock(folder: Path, run: str = "run-1/here", until: str = "0") -> None:
    (folder / "machine-lock").write_text(f"{run}\n{until}\nanne\n2\n\n")


def test_all_of_it_is_removed_with_the_task_of_a_lost_job(place: Place, warm: WarmMachine) -> None:
    assert look(place) == Remains(lock_fields=" 0 0")
    place.start(what="quick", lock_run="")
    place.ended()
    place.start("two", what="quick")
    place.ended("two")
    take_lock(place.folder)
    warm.wait_for_no_task()
    (place.job() / "params.json").write_text(json.dumps({"lock_run": "=run-2/here"}))
    seen = look(place)
    assert (seen.runs, set(seen.jobs), seen.lock_fields) == (("run-1", "run-2"), {"one", "two"}, "run-1/here 2 0")
    assert {(each.what, Path(each.path).name) for each in seen.found} == {
        ("job", "one"), ("job", "two"), ("file of fleetpatch", "machine-lock"), ("folder", place.folder.name),
    }  # fmt: skip
    done = remove(place, seen)
    assert (done.failed, done.left, done.refusal) == ((), (), "")
    assert len(done.removed) == len(seen.found)
    assert not place.folder.exists()
    assert look(place) == Remains(lock_fields=" 0 0")


def test_what_others_put_there_stays_and_is_told(place: Place) -> None:
    place.start(what="quick")
    place.ended()
    notes = place.folder / "jobs" / "notes"
    notes.mkdir()
    (notes / "label").write_text("mine")
    done = remove(place, look(place))
    assert [Path(each.path).name for each in done.left] == ["notes"]
    assert (notes / "label").read_text() == "mine"
    assert sorted(path.name for path in (place.folder / "jobs").iterdir() if path.is_dir()) == ["notes"]


def test_files_of_components_go_and_what_others_put_beside_them_stays(place: Place) -> None:
    place.start(what="quick")
    place.ended()
    folder = place.folder / "components" / "app"
    folder.mkdir(parents=True)
    for name in ("a" * 64, f"{'b' * 64}.part", "install.msi"):
        (folder / name).write_text("x")
    seen = look(place)
    assert [each.what for each in seen.found].count("file of a component") == 3
    (folder / "notes").write_text("mine")
    done = remove(place, seen)
    assert [Path(each.path).name for each in done.left] == ["components"]
    assert [path.name for path in folder.iterdir()] == ["notes"]
    (folder / "notes").unlink()
    done = remove(place, look(place))
    assert (done.failed, done.left) == ((), ())
    assert not place.folder.exists()


def test_nothing_is_removed_under_a_run_or_a_job_or_after_a_change(place: Place) -> None:
    gate = place.folder.parent / f"{place.folder.name}-gate"
    place.start(what="waiting", gate=str(gate))
    busy = look(place)
    assert busy.refusal == "job one is running"
    assert remove(place, busy).removed == ()
    gate.touch()
    place.ended()
    take_lock(place.folder, until=LATER)
    assert look(place).refusal == "run run-1/here (anne) has the lock of this machine"
    take_lock(place.folder)
    seen = look(place)
    take_lock(place.folder, run="run-9/here")
    assert remove(place, seen).has_changed
    take_lock(place.folder)
    place.start("later", what="quick")
    place.ended("later")
    done = remove(place, seen)
    assert done.has_changed
    assert done.removed == ()
    assert (place.folder / "jobs/one/rc").exists()


def test_a_folder_that_others_may_write_is_not_touched(place: Place, warm: WarmMachine) -> None:
    place.start(what="quick")
    place.ended()
    warm.grant(place.folder, "*S-1-1-0:(OI)(CI)F")
    seen = look(place)
    assert seen.found == ()
    assert "others may write into" in seen.left[0].why
    warm.grant(place.folder, "")


def test_paused_updates_come_back_first(warm: WarmMachine) -> None:
    machine = Machine(warm)
    machine.set_policy({"AUOptions": 4})
    assert machine.updaters("pause")[0]["kind"] == "paused"
    take_lock(machine.place, run="run")
    seen = read_remains("here", machine.host, CLOCK, "")
    assert {each.what for each in seen.found} == {"paused updaters", "task", "file of fleetpatch", "folder"}
    assert machine.policy == {"AUOptions": 4, "NoAutoUpdate": 1}
    done = remove_remains("here", seen, machine.host, CLOCK, "")
    assert done.restored == ("Automatic Updates: back",)
    assert (done.failed, done.left) == ((), ())
    assert machine.policy == {"AUOptions": 4}, KEY
    assert machine.tasks == []
    assert not machine.place.exists()
