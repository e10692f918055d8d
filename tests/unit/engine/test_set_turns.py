"""Members of machine sets: one after the other, drained, brought back, and never more than allowed."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.domain.states import FindingLevel, OperationState
from tests.support import builders as make
from tests.support.fleet import outcome_of
from tests.support.set_fleet import RUN, Messages, SetFleet

OTHER = "20260310-000000-bbbbbb"
TURN = ["take", "release"]


@pytest.fixture
def fleet() -> SetFleet:
    made = SetFleet()
    made.add_members("web-1", "web-2", "web-3")
    return made


def reason(report: object, name: str) -> str:
    return outcome_of(report, name).reason  # type: ignore[arg-type]


def hold(fleet: SetFleet, machine: str, set_name: str = "web") -> None:
    """Let another run have a member out of service."""
    fleet.records.save(make.make_run(id=OTHER, state=OperationState.IN_PROGRESS))
    fleet.slots.stored[set_name, machine] = SetSlot(set_name, machine, OTHER, fleet.clock.now())


def end_other_run(fleet: SetFleet) -> None:
    fleet.records.save(make.make_run(id=OTHER, state=OperationState.SUCCEEDED))


@pytest.mark.parametrize("at_once", [1, 3])
def test_members_have_their_turns_one_after_the_other(fleet: SetFleet, at_once: int) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")

    report = fleet.run(fleet.request(waves={"at_once": at_once}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert fleet.slots.most == {"web": 1}
    assert fleet.slots.stored == {}
    assert fleet.drained == {"web-1": 0, "web-2": 0, "web-3": 0}
    assert [each.split()[0] for each in fleet.story] == ["drain", "undrain"] * 3
    assert [each.split()[0] for each in fleet.slots.story] == TURN * 3
    assert {result.hook.name for result in report.hooks} == {"set web: drain", "set web: undrain"}
    assert len(report.hooks) == 6


def test_the_member_is_drained_before_its_first_change_and_brought_back_after_its_validation(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1")
    fleet.run(fleet.request(scope="name=web-1"))

    told = []
    for call in fleet.machines["web-1"].calls:
        if call.script is None or call.name in {"facts", "probe", "fake_read"}:
            continue
        told.append(str(call.script.params.get("name") or call.script.params.get("work") or call.name))
    interesting = [
        each for each in told if each in {"set web: drain", "install", "stage", "reboot", "set web: undrain"}
    ]
    assert interesting == ["stage", "set web: drain", "install", "reboot", "set web: undrain"]


def test_machines_of_no_set_are_not_held_back(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2")
    hold(fleet, "web-1")
    fleet.machines["web-3"].on_start("install", 5, lambda: end_other_run(fleet))

    report = fleet.run(fleet.request())

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert [each.split()[1] for each in fleet.slots.story if each.startswith("take")] == ["web-1", "web-2"]
    assert fleet.waits()[:2] == [
        f"web-1 waits: set web: run {OTHER} has web-1 (the machine itself)",
        f"web-2 waits: set web: run {OTHER} has web-1 (1 of 2 may be out of service)",
    ]
    installs = [m.installs()[0] for m in fleet.machines.values()]
    assert len(installs) == 3


def test_a_member_waits_for_another_run_until_the_last_start_in_the_window(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    hold(fleet, "web-2")

    report = fleet.run(fleet.request(minutes=60, scope="name=web-1"))

    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.NOT_STARTED
    assert f"set web: run {OTHER} has web-2 (1 of 3 may be out of service)" in outcome.reason
    assert "shortest installation" in outcome.reason
    assert report.run.window is not None
    assert report.run.window.end - timedelta(minutes=20) < fleet.clock.now() <= report.run.window.end
    assert fleet.waits() == [f"web-1 waits: set web: run {OTHER} has web-2 (1 of 3 may be out of service)"]
    assert fleet.story == []


def test_a_stop_request_ends_the_wait(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    hold(fleet, "web-2")
    began, sleep = fleet.clock.now(), fleet.clock.sleep

    def stop_after_a_while(seconds: float) -> None:
        sleep(seconds)
        if fleet.clock.now() - began > timedelta(minutes=5):
            fleet.control.request_stop("people asked")

    fleet.clock.sleep = stop_after_a_while  # type: ignore[method-assign]
    report = fleet.run(fleet.request(scope="name=web-1"))

    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert reason(report, "web-1").endswith("the run was asked to stop: people asked")
    assert fleet.clock.now() - began < timedelta(minutes=6)


def test_a_member_that_does_not_come_back_stays_drained_and_the_next_is_not_touched(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    fleet.machines["web-1"].boots.up_after = None

    report = fleet.run(fleet.request(waves={"failure_budget_count": 9}))

    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert fleet.drained == {"web-1": 1}
    (left,) = [each for each in outcome_of(report, "web-1").findings if each.check == "set web: undrain"]
    assert left.level is FindingLevel.WARN
    assert "stays out of service" in left.message
    assert "join" in left.remedy
    for name in ("web-2", "web-3"):
        assert outcome_of(report, name).state is OperationState.NOT_STARTED
        assert "set web: web-1 is still out of service: " in reason(report, name)
        assert fleet.machines[name].installs() == []
    (slot,) = fleet.slots.stored.values()
    assert slot.machine == "web-1"
    assert slot.reason


def test_a_member_that_is_down_before_counts_and_is_waited_for_only_some_minutes(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    fleet.sick["web-3"] = "connection refused"
    began = fleet.clock.now()

    report = fleet.run(fleet.request(scope="name=web-1"))

    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert "set web: web-3 is not healthy: up: " in reason(report, "web-1")
    assert "connection refused" in reason(report, "web-1")
    assert fleet.clock.now() - began < timedelta(minutes=8)
    assert fleet.story == []


def test_a_member_that_gets_healthy_in_time_is_not_in_the_way(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    fleet.sick["web-3"] = "connection refused"
    fleet.machines["web-3"].at(120, fleet.sick.clear)

    report = fleet.run(fleet.request(scope="name=web-1"))

    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED


def test_the_health_of_the_others_is_looked_at_again_just_before_the_first_change(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")

    def get_sick() -> None:
        fleet.sick["web-2"] = "gone"
        fleet.clock.advance(6)  # the answer before that is too old

    fleet.machines["web-1"].on_start("stage", 0, get_sick)

    report = fleet.run(fleet.request(scope="name=web-1"))

    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert "web-2 is not healthy" in reason(report, "web-1")
    assert fleet.story == []
    assert fleet.machines["web-1"].installs() == []
    assert fleet.slots.stored == {}


def test_a_member_that_is_not_healthy_after_its_turn_keeps_its_slot(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3", undrain=None)
    fleet.machines["web-1"].on_start("install", 1, lambda: fleet.sick.update({"web-1": "503"}))

    report = fleet.run(fleet.request(waves={"failure_budget_count": 9}))

    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert "it is not healthy 300 s after its turn: up: " in reason(report, "web-1")
    assert {outcome_of(report, name).state for name in ("web-2", "web-3")} == {OperationState.NOT_STARTED}
    assert fleet.drained == {"web-1": 1}


def test_a_member_that_needs_some_time_after_its_turn_holds_the_next_one_back_that_long(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2")

    def get_sick() -> None:
        fleet.sick["web-1"] = "starting"
        fleet.machines["web-1"].at(150, fleet.sick.clear)

    fleet.machines["web-1"].on_start("install", 1, get_sick)
    report = fleet.run(fleet.request(scope="name=web-[12]", waves={"at_once": 1}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_drain_or_undrain_that_fails(fleet: SetFleet, verb: str) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    fleet.fails[f"{verb} web-1"] = "no balancer"

    report = fleet.run(fleet.request(waves={"failure_budget_count": 9}))

    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert f"set web: {verb}" in reason(report, "web-1")
    assert "no balancer" in reason(report, "web-1")
    if verb == "drain":  # it may have been drained half-way
        assert fleet.story[:2] == ["drain web-1", "undrain web-1"]
        assert fleet.machines["web-1"].installs() == []
        assert outcome_of(report, "web-2").state is OperationState.SUCCEEDED
    else:
        assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
        assert "no balancer" in reason(report, "web-2")


def test_machines_without_updates_take_no_slot(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    hold(fleet, "web-2")

    report = fleet.run(fleet.request("nothing-of-this-name"))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert fleet.slots.story == []


@pytest.mark.parametrize("fields", [{"dry_run": True}, {"download_only": True}])
def test_runs_that_only_read_or_download_take_no_slots(fleet: SetFleet, fields: dict[str, Any]) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    hold(fleet, "web-2")
    began = fleet.clock.now()

    fleet.run(fleet.request(**fields))

    assert fleet.slots.story == []
    assert fleet.story == []
    assert fleet.clock.now() - began < timedelta(minutes=10)


def test_a_spent_failure_budget_ends_the_wait(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2")
    hold(fleet, "web-2")
    fleet.machines["web-3"].boots.up_after = None
    began = fleet.clock.now()

    report = fleet.run(fleet.request(waves={"failure_budget_count": 0, "at_once": 1}))

    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert "the failure budget is spent" in reason(report, "web-1")
    assert fleet.clock.now() - began < timedelta(minutes=60)


def test_records_that_are_away_are_waited_for(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1")
    assert isinstance(fleet.watch, Messages)
    tell = fleet.watch.on_message

    def go_away(message: str) -> None:
        tell(message)
        fleet.slots.away = 4 if message.startswith("wave 1 ") else fleet.slots.away

    fleet.watch.on_message = go_away  # type: ignore[method-assign]
    report = fleet.run(fleet.request(scope="name=web-1"))

    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    assert any("can't be read" in each for each in fleet.waits())
    assert report.run.id == RUN


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_machine_in_two_sets_waits_for_both(at_once: int) -> None:
    fleet = SetFleet()
    fleet.add_members("a", "b", "both", "c", tags={})
    fleet.add_set("left", "a", "both")
    fleet.add_set("right", "both", "b", "c")

    report = fleet.run(fleet.request(waves={"at_once": at_once}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert fleet.slots.most == {"left": 1, "right": 1}
    drains = [each for each in fleet.story if each.endswith("both")]
    assert drains == ["drain both", "drain both", "undrain both", "undrain both"]


def test_update_domains_have_their_turns_one_after_the_other() -> None:
    fleet = SetFleet()
    for name in ("a-1", "b-1", "a-2", "b-2"):
        fleet.add_members(name, tags={"rack": name[0]})
    fleet.add_set("web", "a-1", "b-1", "a-2", "b-2", max_unavailable=2, update_domain="rack")

    report = fleet.run(fleet.request(waves={"at_once": 4}))

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    out: set[str] = set()
    for act in fleet.story:
        verb, machine = act.split()
        out = out | {machine} if verb == "drain" else out - {machine}
        assert len({name[0] for name in out}) < 2, fleet.story


def test_another_run_that_takes_the_last_place_at_the_last_moment_wins(fleet: SetFleet) -> None:
    fleet.add_set("web", "web-1", "web-2", "web-3")
    take = fleet.slots.take

    def take_a_moment_later(slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        hold(fleet, "web-2")
        return take(slots, may_take)

    fleet.slots.take = take_a_moment_later  # type: ignore[method-assign]
    report = fleet.run(fleet.request(scope="name=web-1", minutes=60))

    assert outcome_of(report, "web-1").state is OperationState.NOT_STARTED
    assert fleet.slots.story == []  # not even for a moment
    assert [slot.machine for slot in fleet.slots.find()] == ["web-2"]
