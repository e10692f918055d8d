"""The guests of a hypervisor host leave before it reboots, and exactly those that ran come back."""

from typing import Any

import pytest

from inventory.guests import GuestAction, GuestSettings, StubbornGuests
from tasks.domain.errors import ConnectionLost
from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, FindingLevel, OperationState, RebootState
from tasks.rules.runs.guests import GUESTS_ACT
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_hypervisor import SimGuest, SimHypervisor
from tests.unit.engine.hook_stage import Owner, run

RAN = {"libvirt:a1", "qemu:100", "lxc:7"}


def make_host(*, asks_reboot: bool = True, **settings: Any) -> tuple[SimFleet, SimHypervisor]:
    fleet = SimFleet()
    packages = [FakePackage("linux", seconds=20, asks_reboot=asks_reboot)]
    host = fleet.add("host", packages, guests=GuestSettings(minutes=5, **settings))
    guests = {name: SimGuest() for name in sorted(RAN)}
    return fleet, SimHypervisor(host, {**guests, "qemu:999": SimGuest(is_running=False)})


def patch(fleet: SimFleet, **named: Any) -> RunReport:
    return run(Owner(fleet), fleet.request(), **named)


def describe_reboot(outcome: Outcome) -> str:
    return " ".join(step.message for step in outcome.steps)


def find_findings(report: RunReport) -> list[tuple[str, FindingLevel, str]]:
    found = outcome_of(report, "host").findings
    return [(each.check, each.level, each.message) for each in found if each.check.startswith("guests")]


def test_they_leave_first_and_are_back_afterwards() -> None:
    fleet, hypervisor = make_host()
    report = patch(fleet)
    assert report.run.state is OperationState.SUCCEEDED
    assert fleet.machines["host"].boots.count == 1
    assert hypervisor.running == RAN
    assert not hypervisor.cut
    assert [order for order in hypervisor.orders if "999" in order] == []
    assert find_findings(report) == [("guests back", FindingLevel.GOOD, "guests are back: a1, 7, 100")]


def test_without_a_reboot_nobody_leaves() -> None:
    fleet, hypervisor = make_host(asks_reboot=False)
    patch(fleet)
    assert hypervisor.orders == []


def test_the_journal_has_them_before_the_first_one_is_asked() -> None:
    fleet, _ = make_host()
    patch(fleet)
    entries = [
        entry for entry in fleet.records.read_entries("20260310-010000-aaaaaa", "host") if entry.act == GUESTS_ACT
    ]
    assert [entry.mark for entry in entries] == [JournalMark.BEFORE, JournalMark.AFTER]
    guests = entries[0].detail["guests"]
    assert isinstance(guests, list)
    assert {pair[0] for pair in guests} == RAN


def test_one_that_does_not_leave_keeps_its_host_up_and_the_others_come_back() -> None:
    fleet, hypervisor = make_host()
    hypervisor.guests["qemu:100"].leaves_after = None
    report = patch(fleet)
    assert fleet.machines["host"].boots.count == 0
    assert hypervisor.running == RAN
    assert not hypervisor.cut
    outcome = outcome_of(report, "host")
    assert outcome.reboot is RebootState.REQUIRED
    assert "its guests are not away after 5 min: 100 did not shutdown" in describe_reboot(outcome)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_one_that_leaves_when_its_host_was_given_up_is_started_and_named() -> None:
    fleet, hypervisor = make_host()
    hypervisor.guests["qemu:100"].leaves_after = 450
    report = patch(fleet)
    fleet.clock.sleep(3600)
    assert fleet.machines["host"].boots.count == 0
    assert hypervisor.running == RAN
    (warned,) = [message for _, level, message in find_findings(report) if level is FindingLevel.WARN]
    assert warned == "asked to shutdown, and may still do so after this run: 100"


def test_it_is_switched_off_only_where_its_owner_says_so_and_never_silently() -> None:
    fleet, hypervisor = make_host(stubborn=StubbornGuests.FORCE)
    hypervisor.guests["qemu:100"].leaves_after = None
    report = patch(fleet)
    assert fleet.machines["host"].boots.count == 1
    assert hypervisor.cut == {"qemu:100"}
    assert hypervisor.running == RAN
    warned = [message for check, level, message in find_findings(report) if level is FindingLevel.WARN]
    assert warned == ["switched off hard, as they did not shutdown in 5 min: 100"]


@pytest.mark.parametrize(
    ("settings", "prepare", "reason"),
    [
        ({}, "unread", "which guests run is not known: virsh: no connection"),
        ({}, "paused", "guests are paused, and would be lost: a1"),
        ({"action": GuestAction.PAUSE}, "", "containers can't be paused: 7"),
        ({}, "other", "guests would start again from other disks than they run with: a1"),
        ({}, "unknown", "from which disks guests would start again is not known: a1"),
    ],
)
def test_what_is_not_known_or_not_possible_keeps_the_host_up(
    settings: dict[str, Any], prepare: str, reason: str
) -> None:
    fleet, hypervisor = make_host(**settings)
    if prepare == "unread":
        hypervisor.unread = "virsh: no connection"
    elif prepare in {"other", "unknown"}:
        hypervisor.guests["libvirt:a1"].disks = prepare
    elif prepare == "paused":
        hypervisor.guests["libvirt:a1"].is_paused, hypervisor.guests["libvirt:a1"].is_running = True, False
    report = patch(fleet)
    outcome = outcome_of(report, "host")
    assert fleet.machines["host"].boots.count == 0
    assert reason in describe_reboot(outcome)
    assert hypervisor.orders == []


def test_one_that_does_not_come_back_is_a_warning() -> None:
    fleet, hypervisor = make_host()
    hypervisor.guests["qemu:100"].comes_back = False
    report = patch(fleet)
    (found,) = [message for _, level, message in find_findings(report) if level is FindingLevel.WARN]
    assert found == "guests that ran before are not back: 100: they do not run again"


def test_a_lost_line_while_they_leave_brings_them_back() -> None:
    fleet, hypervisor = make_host()
    fleet.machines["host"].fail(ConnectionLost("the line is cut", machine="host"), call=3, on="guests")
    patch(fleet)
    assert hypervisor.running == RAN
    assert not hypervisor.cut


def count_calls() -> int:
    fleet, _ = make_host()
    life = Life()
    patch(fleet, life=life)
    return life.calls


@pytest.mark.parametrize("after_the_act", [False, True])
def test_whenever_the_controller_dies_exactly_those_that_ran_run_again(after_the_act: bool) -> None:
    for call in choose_calls(count_calls()):
        fleet, hypervisor = make_host()
        life = Life(dies_at=call, after_the_act=after_the_act)
        with pytest.raises(Killed):
            patch(fleet, life=life)
        fleet.clock.sleep(3600)
        if any(known.state in UNFINISHED_RUN_STATES for known in fleet.records.runs.values()):
            patch(fleet, again=True)
        assert hypervisor.running == RAN, f"call {call}"
        assert not hypervisor.cut, f"call {call}"
