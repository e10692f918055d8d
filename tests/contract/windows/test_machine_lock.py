"""Claims on Windows that another run takes over, or that are released where the disk is full."""

from collections.abc import Iterator

import pytest

from tests.contract.windows.job_places import Place
from tests.contract.windows.warm_machine import WarmMachine

NO_ROOM = """
function Stop-FpSave { throw [System.IO.IOException]::new('There is not enough space on the disk.') }
Set-Alias -Name Save-FpText -Value Stop-FpSave
"""


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    here = Place(warm)
    yield here
    warm.wait_for_no_task()


def test_a_run_takes_the_lock_only_from_the_kind_that_it_may(place: Place) -> None:
    place.take_lock("first", kind="stage")
    assert place.take_lock("other")["kind"] == "taken"
    assert place.take_lock("other", preempts="install")["kind"] == "taken"
    locked = place.take_lock("other", preempts="stage")
    assert (locked["kind"], locked["preempted"]) == ("locked", "first")


def test_the_job_of_the_run_is_asked_to_stop_and_keeps_the_lock_until_its_end(place: Place) -> None:
    place.take_lock("first", kind="stage")
    place.start(what="endless", lock_run="first", lock_attempt="1")
    taken = place.take_lock("other", preempts="stage")
    assert (taken["kind"], taken["run"], taken["job"], taken["ending"]) == ("taken", "first", "one", True)
    assert (place.job() / "stop").read_text() == "other (anne)\n"
    assert [event["kind"] for event in place.ended().events] == ["begun", "stopped"]
    assert place.take_lock("other", preempts="stage")["kind"] == "locked"


def test_a_job_that_is_not_of_that_run_is_not_asked_to_stop(place: Place) -> None:
    place.take_lock("first", kind="stage")
    place.start(what="endless")
    taken = place.take_lock("other", preempts="stage")
    assert (taken["kind"], taken["job"], taken["ending"]) == ("taken", "one", False)
    assert not (place.job() / "stop").exists()
    place.stop()
    place.ended()


def test_a_job_that_can_not_be_asked_to_stop_is_not_said_to_end(place: Place) -> None:
    place.take_lock("first", kind="stage")
    place.start(what="endless", lock_run="first", lock_attempt="1")
    place.before["machine_lock"] = NO_ROOM
    taken = place.take_lock("other", preempts="stage")
    assert (taken["kind"], taken["ending"]) == ("taken", False)
    place.stop()
    place.ended()


def test_who_has_no_lock_releases_nothing(place: Place) -> None:
    assert place.take_lock(release="yes")["kind"] == "released"
    place.take_lock("other")
    assert place.take_lock(release="yes")["run"] == "other"
    assert place.take_lock("third")["run"] == "other"
    place.take_lock("other", release="yes")
    assert place.take_lock(release="yes") == {"kind": "released", "run": "run"}
    assert place.take_lock("third")["kind"] == "locked"


def test_a_lock_is_released_on_a_full_disk_too(place: Place) -> None:
    place.take_lock()
    place.before["machine_lock"] = NO_ROOM
    assert place.take_lock(release="yes")["kind"] == "released"
    assert not (place.folder / "machine-lock").exists()
    refused = place.take_lock("other")
    assert (refused["kind"], refused["about"]) == ("refused", "room")
    place.before.clear()
    assert place.take_lock("other")["kind"] == "locked"
