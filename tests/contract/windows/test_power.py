"""power.ps1: how long a machine has run, and when it is powered off."""

import time
from collections.abc import Iterator

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tests.contract.windows.test_reboot import LATER, PAST, PENDING, Place
from tests.contract.windows.warm_machine import WarmMachine
from tests.lab.windows.state import change_state

PEOPLE = ("explorer", "sihost", "rdpclip")


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Place]:
    yield Place(warm, warm.make_place(), warm.read_boot_id())
    with change_state(warm.windows.folder) as state:
        state["shutdown"] = None
        state["events"] = []
        state["processes"] = [each for each in state["processes"] if each["name"] not in PEOPLE]


def order(place: Place, work: str) -> tuple[ScriptRecord, ...]:
    power, *others = place.run("power", work=work, run="run", delay=str(PENDING))
    assert power["kind"] == "power"
    assert power["boot_id"] == place.boot
    assert isinstance(power["up_seconds"], int)
    return tuple(others)


def test_a_look_says_how_long_it_has_run_and_orders_nothing(place: Place) -> None:
    assert order(place, "look") == ()
    assert place.shutdown is None


def test_it_is_powered_off_with_a_planned_reason(place: Place) -> None:
    (answer,) = order(place, "off")
    shutdown = place.shutdown
    assert answer["kind"] == "ordered"
    assert shutdown is not None
    assert (shutdown["restart"], shutdown["reason"]) == (False, "p:2:17")
    assert PENDING - 60 < float(str(shutdown["at"])) - time.time() <= PENDING


def test_a_check_orders_nothing(place: Place) -> None:
    (answer,) = order(place, "check")
    assert answer["kind"] == "allowed"
    assert place.shutdown is None


@pytest.mark.parametrize("name", PEOPLE)
def test_who_is_logged_in_keeps_it_on(place: Place, name: str) -> None:
    with change_state(place.warm.windows.folder) as state:
        state["processes"].append({"pid": 7777, "name": name, "start": time.time()})
    (answer,) = order(place, "off")
    assert (answer["kind"], answer["about"]) == ("refused", "people")
    assert answer["why"] == f"somebody is logged in: a session runs {name}"
    assert place.shutdown is None


def test_another_run_that_has_the_machine_keeps_it_on(place: Place) -> None:
    place.locked("other", LATER)
    (answer,) = order(place, "off")
    assert (answer["kind"], answer["about"], answer["why"]) == ("refused", "machine_lock", "run other (anne) has it")
    assert place.shutdown is None


def test_a_lock_that_is_over_does_not(place: Place) -> None:
    place.locked("other", PAST)
    assert order(place, "off")[0]["kind"] == "ordered"


def test_a_shutdown_that_somebody_has_scheduled_is_left_alone(place: Place) -> None:
    place.by_a_person("/r /t 900 /c 'maintenance by anne'")
    before = place.shutdown
    (answer,) = order(place, "off")
    assert (answer["kind"], answer["about"]) == ("refused", "inhibitor")
    assert "1190" in str(answer["why"])
    assert place.shutdown == before
