"""Machines that have their scheduled events as a file: what lies there, and what runs read beside it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from inventory.event_delivery import EventDelivery
from tasks.domain.errors import ConnectionLost
from tasks.domain.protocols.transport import Script
from tasks.domain.states import OperationState, RebootState
from tests.support.event_fleet import ANNOUNCE, WakingClock, after, only_event, reason_of
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet(clock=WakingClock())


class EventFile:
    """The file of a machine, as its script keeps it."""

    def __init__(self, machine: SimMachine) -> None:
        self.text, self.approved, self.documents = "", set[str](), list[dict[str, Any]]()
        self.refuses = ""
        machine.answer("event_file", self.answer)

    def answer(self, script: Script) -> Any:
        if self.refuses:
            return {"kind": "refused", "why": self.refuses}
        if script.params["work"] == "tell":
            self.text = str(script.params["document"])
            self.documents.append(json.loads(self.text))
            self.approved -= set(script.params["over"])
            return {"kind": "told"}
        approvals = [
            {"kind": "approval", "event": each} for each in script.params.get("events", ()) if each in self.approved
        ]
        return [{"kind": "document", "text": self.text}, *approvals]

    def approve(self) -> None:
        """Let a program approve all that it reads."""
        self.approved |= {event["EventId"] for event in json.loads(self.text)["Events"]}


def with_file(fleet: SimFleet) -> tuple[SimMachine, EventFile]:
    package = FakePackage("a", seconds=20, asks_reboot=True, requires_reboot=True)
    machine = fleet.add("web", [package], scheduled_events=EventDelivery.FILE)
    return machine, EventFile(machine)


def test_a_machine_that_has_a_file_is_told_there_and_approves_beside_it(fleet: SimFleet) -> None:
    web, file = with_file(fleet)
    after(fleet, 120, file.approve)

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    seen = [[event["EventStatus"] for event in document["Events"]] for document in file.documents]
    incarnations = [document["DocumentIncarnation"] for document in file.documents]
    assert seen == [["Scheduled"], ["Started"], []]
    assert incarnations == sorted(set(incarnations))
    assert web.boots.ordered_at[0] < only_event(fleet).not_before - timedelta(minutes=10)
    assert "its event was approved by web" in reason_of(outcome)
    assert file.approved == set()


def test_a_file_never_goes_back(fleet: SimFleet) -> None:
    _, file = with_file(fleet)
    file.text = json.dumps({"DocumentIncarnation": 500, "Events": []})

    fleet.patch(**ANNOUNCE)

    assert [document["DocumentIncarnation"] for document in file.documents] == [501, 502, 503]


def test_a_machine_that_can_not_be_told_is_not_interrupted(fleet: SimFleet) -> None:
    web, file = with_file(fleet)
    file.refuses = "/var/lib/fleetpatch-events is a link"

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert (web.boots.orders, outcome.state) == ([], OperationState.FAILED)
    assert "is a link" in outcome.reason
    assert not any(event.is_open for event in fleet.events.events.values())


def test_a_file_that_can_not_be_brought_up_to_date_is_a_warning(fleet: SimFleet) -> None:
    web, file = with_file(fleet)

    def break_after_the_order(script: Script) -> Any:
        file.refuses = "no space"
        return web._reboot(script)

    web.answer("reboot", break_after_the_order)
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert [finding.message for finding in outcome.findings if finding.check == "scheduled events"] == [
        "its file of scheduled events is not up to date: the file of scheduled events can't be used: no space"
    ]


def test_a_line_that_breaks_while_the_file_is_written_is_no_failure(fleet: SimFleet) -> None:
    web, file = with_file(fleet)
    tells: list[str] = []

    def break_once_each(script: Script) -> Any:
        if script.params["work"] == "tell":
            tells.append(str(script.params["document"]))
            if tells.count(tells[-1]) == 1:
                raise ConnectionLost("the line broke")
        return file.answer(script)

    web.answer("event_file", break_once_each)
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert (outcome.reboot, outcome.state) == (RebootState.COMPLETED, OperationState.SUCCEEDED)
    seen = [[event["EventStatus"] for event in document["Events"]] for document in file.documents]
    assert seen == [["Scheduled"], ["Started"], []]


def test_a_file_that_can_not_be_written_when_the_reboot_begins_is_a_warning(fleet: SimFleet) -> None:
    web, file = with_file(fleet)

    def refuse_started(script: Script) -> Any:
        if '"Started"' in str(script.params.get("document", "")):
            return {"kind": "refused", "why": "no space"}
        return file.answer(script)

    web.answer("event_file", refuse_started)
    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 1)
    assert any("no space" in finding.message for finding in outcome.findings if finding.check == "scheduled events")


def test_a_machine_that_can_not_be_told_before_the_window_is_told_in_its_turn(fleet: SimFleet) -> None:
    web, file = with_file(fleet)
    start = fleet.clock.now() + timedelta(hours=2)
    file.refuses = "no space"
    after(fleet, 2 * 3600 - 60, lambda: setattr(file, "refuses", ""))

    outcome = outcome_of(fleet.patch(start=start, **ANNOUNCE), "web")

    assert outcome.reboot is RebootState.COMPLETED
    assert [event["EventStatus"] for event in file.documents[0]["Events"]] == ["Scheduled"]
    assert web.boots.ordered_at[0] >= start
