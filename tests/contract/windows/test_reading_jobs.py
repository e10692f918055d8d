"""Jobs that only ask the machine something: they and the jobs that change it do not wait for each other."""

import json
import threading
from collections.abc import Iterator

import pytest

from tasks.domain.errors import ManagerBusy
from tasks.domain.protocols.transport import Job, JobPhase, Script
from tests.contract.windows.job_places import Place, soon, wait
from tests.contract.windows.warm_machine import WarmMachine


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    warm.wait_for_no_task()


def read(place: Place, job_id: str, what: str = "endless") -> None:
    place.open().start_job(Job(job_id, Script(what), reads=True), deadline=soon())


def end(place: Place, *job_ids: str) -> None:
    for job_id in job_ids:
        place.stop(job_id)
        assert place.ended(job_id).phase is JobPhase.FINISHED


def test_several_run_beside_one_that_changes_the_machine(place: Place) -> None:
    readers = [f"reader-{number}" for number in range(4)]
    for reader in readers[:2]:
        read(place, reader)
    assert place.take_lock()["kind"] == "locked"
    place.start(what="endless", lock_run="run", lock_attempt="1")
    assert place.take_lock("other")["job"] == "one"
    for reader in readers[2:]:
        read(place, reader)
    with pytest.raises(ManagerBusy, match=r"reader-. \(endless\)"):
        read(place, "reader-5")
    with pytest.raises(ManagerBusy, match="one"):
        place.start("two")
    end(place, "one", readers[0])
    read(place, "reader-5", "quick")
    assert place.ended("reader-5").exit_code == 5
    assert place.take_lock(release="yes")["kind"] == "released"
    (shown,) = place.host.run_script(Script("lock"), deadline=soon()).records
    assert shown["job"] == ""
    end(place, *readers[1:])


def test_those_that_were_killed_take_no_place(place: Place) -> None:
    place.take_lock()
    for number in range(4):
        job = place.job(f"killed-{number}")
        job.mkdir(parents=True)
        (job / "meta.json").write_text(json.dumps({"pid": 1, "start": "1", "began": 7}))
        (job / "reads").touch()
        assert place.phase(f"killed-{number}") is JobPhase.LOST
    read(place, "reader", "quick")
    assert place.ended("reader").exit_code == 5
    place.start(lock_run="run", lock_attempt="1")
    assert place.ended().exit_code == 5


def test_one_whose_start_takes_long_keeps_no_run_from_the_machine(place: Place) -> None:
    place.is_held_up = True
    start = threading.Thread(target=read, args=(place, "reader", "quick"))
    start.start()
    wait((place.job("reader") / "launching").exists)
    place.is_held_up = False
    assert place.take_lock()["kind"] == "locked"
    place.start(lock_run="run", lock_attempt="1")
    assert place.ended().exit_code == 5
    place.run_task("reader")
    start.join(60)
    assert place.ended("reader").exit_code == 5


def test_they_do_not_remove_what_an_installation_has_written(place: Place) -> None:
    place.start()
    place.ended()
    for number in range(21):
        job = place.job(f"old-{number:02}")
        job.mkdir()
        (job / "meta.json").write_text(json.dumps({"pid": 1, "start": "1", "began": 7}))
        (job / "rc").write_text("0 8\n")
        (job / "reads").touch()
    read(place, "reader", "quick")
    place.ended("reader")
    names = {path.name for path in place.job().parent.iterdir() if path.is_dir()}
    assert {"one", "reader"} < names
    assert len(names) == 21
