"""Runs that announce what they interrupt: notice, approval, window, end, and a controller that dies."""

from datetime import timedelta
from typing import Any

import pytest

from flows.engine.event_announcer import build_event_parts
from tasks.domain.errors import RequestError
from tasks.domain.scheduled_events import EventSource, EventStatus, EventType
from tasks.domain.states import OperationState, RebootPolicy, RebootState
from tests.support.event_fleet import ANNOUNCE, NOTICE, WakingClock, after, approve, asks, only_event, reason_of
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.set_fleet import SetFleet
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN

SCHEDULED, STARTED, COMPLETED, CANCELED = EventStatus


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet(clock=WakingClock())


def test_nothing_is_announced_unless_it_is_switched_on(fleet: SimFleet) -> None:
    web, began = asks(fleet), fleet.clock.now()

    fleet.patch()

    assert fleet.events.events == {}
    assert web.boots.ordered_at[0] < began + NOTICE


def test_a_machine_that_never_answers_reboots_at_its_time(fleet: SimFleet) -> None:
    web, began = asks(fleet), fleet.clock.now()

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    event = only_event(fleet)
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED)
    assert (event.event_type, event.source, event.resources) == (EventType.REBOOT, EventSource.USER, ("web",))
    assert event.not_before >= began + NOTICE
    assert event.not_before <= web.boots.ordered_at[0] <= event.not_before + timedelta(seconds=30)
    assert "its event's time had come without the approval of web" in reason_of(outcome)
    assert fleet.events.story == ["announce reboot/0 of web", "Started reboot/0 of web", "Completed reboot/0 of web"]
    assert fleet.events.read_document("web").events == ()


def test_the_notice_runs_while_updates_are_installed(fleet: SimFleet) -> None:
    web = asks(fleet, seconds=1200)

    fleet.patch(**ANNOUNCE)

    event, ended_at = only_event(fleet), web.begun()[-1].ended_at
    assert ended_at is not None
    assert event.announced_at < event.not_before < ended_at <= web.boots.ordered_at[0]
    assert web.boots.ordered_at[0] - ended_at < timedelta(seconds=60)


def test_an_approval_begins_early(fleet: SimFleet) -> None:
    web = asks(fleet)
    after(fleet, 120, lambda: approve(fleet, "web"))

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert web.boots.ordered_at[0] < only_event(fleet).not_before - timedelta(minutes=10)
    assert "its event was approved by web" in reason_of(outcome)


def test_the_machine_sees_it_as_started_while_it_reboots(fleet: SimFleet) -> None:
    web = asks(fleet)
    seen: list[EventStatus] = []

    def look(script: Any) -> Any:
        seen.extend(event.status for event in fleet.events.read_document("web").events)
        return web._reboot(script)

    web.answer("reboot", look)
    fleet.patch(**ANNOUNCE)

    assert seen == [STARTED]


def test_a_reboot_that_the_plan_did_not_expect_is_announced_when_it_is_needed(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60, asks_reboot=True)])

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    event, ended_at = only_event(fleet), web.begun()[-1].ended_at
    assert ended_at is not None
    assert event.announced_at >= ended_at
    assert web.boots.ordered_at[0] >= event.announced_at + NOTICE
    assert outcome.reboot is RebootState.COMPLETED


def test_a_reboot_that_is_not_needed_after_all_is_withdrawn(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=20, requires_reboot=True, ignored=True)])

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert web.boots.orders == []
    assert (only_event(fleet).status, outcome.reboot) == (CANCELED, RebootState.NOT_NEEDED)


def test_nothing_begins_that_the_window_can_not_hold_with_its_notice(fleet: SimFleet) -> None:
    web = asks(fleet)

    outcome = outcome_of(fleet.patch(minutes=25, reboot_reserve_minutes=10.5, **ANNOUNCE), "web")

    assert (web.begun(), web.boots.orders, fleet.events.events) == ([], [], {})
    assert outcome.state is OperationState.NOT_STARTED
    assert "a reboot, 15 min announced, needs about" in outcome.reason


def test_the_notice_of_a_reboot_that_nobody_can_predict_is_kept(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60, asks_reboot=True)])

    outcome = outcome_of(fleet.patch(minutes=26, reboot_reserve_minutes=10.5, **ANNOUNCE), "web")

    assert (web.begun(), outcome.state) == ([], OperationState.NOT_STARTED)
    assert "15 min kept for the notice of a reboot" in outcome.reason

    outcome = outcome_of(fleet.patch(minutes=60, reboot_reserve_minutes=10.5, **ANNOUNCE), "web")

    assert (outcome.reboot, web.boots.count) == (RebootState.COMPLETED, 1)


def test_a_reboot_whose_notice_no_longer_fits_is_left(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", seconds=60, asks_reboot=True, requires_reboot=False)])

    outcome = outcome_of(fleet.patch(minutes=26, reboot_reserve_minutes=10.5, **ANNOUNCE), "web")

    assert (web.boots.orders, fleet.events.events) == ([], {})
    assert outcome.reboot is RebootState.REQUIRED
    assert "the reboot, 15 min announced, needs about" in reason_of(outcome)


def test_machines_that_begin_first_are_told_before_the_window_opens(fleet: SimFleet) -> None:
    first, second = asks(fleet, "first"), asks(fleet, "second")
    start = fleet.clock.now() + timedelta(hours=2)

    fleet.patch(start=start, **ANNOUNCE)

    events = {event.resources[0]: event for event in fleet.events.events.values()}
    assert events["first"].announced_at == start - NOTICE
    assert events["first"].not_before == start
    assert first.boots.ordered_at[0] < start + timedelta(minutes=2)
    assert events["second"].announced_at > first.boots.ordered_at[0]
    assert second.boots.ordered_at[0] >= events["second"].announced_at + NOTICE


def test_an_early_approval_does_not_open_the_window(fleet: SimFleet) -> None:
    web = asks(fleet)
    start = fleet.clock.now() + timedelta(hours=2)
    after(fleet, 2 * 3600 - 600, lambda: approve(fleet, "web"))

    fleet.patch(start=start, **ANNOUNCE)

    assert web.begun()[0].at >= start
    assert web.boots.ordered_at[0] >= start


def test_a_run_that_is_stopped_withdraws_what_it_announced(fleet: SimFleet) -> None:
    web = asks(fleet)
    after(fleet, 300, lambda: fleet.control.request_stop("anna said so"))

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    event = only_event(fleet)
    assert (event.status, web.boots.orders, outcome.reboot) == (CANCELED, [], RebootState.REQUIRED)
    assert "anna said so" in event.reason


def test_a_run_that_is_stopped_before_its_window_withdraws_what_it_announced(fleet: SimFleet) -> None:
    asks(fleet)
    start = fleet.clock.now() + timedelta(hours=2)
    after(fleet, 2 * 3600 - 600, lambda: fleet.control.request_stop("anna said so"))

    fleet.patch(start=start, **ANNOUNCE)

    assert fleet.events.story == ["announce reboot/0 of web", "Canceled reboot/0 of web"]


def test_an_event_that_a_person_withdraws_does_not_happen(fleet: SimFleet) -> None:
    web = asks(fleet)
    after(fleet, 300, lambda: fleet.events.change(only_event(fleet).id, CANCELED, "anna: not today"))

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert (web.boots.orders, outcome.reboot) == ([], RebootState.REQUIRED)
    assert "its scheduled event was withdrawn: anna: not today" in reason_of(outcome)


def test_an_event_that_a_person_withdraws_before_the_window_does_not_happen_either(fleet: SimFleet) -> None:
    web = asks(fleet)
    start = fleet.clock.now() + timedelta(hours=2)
    after(fleet, 2 * 3600 - 600, lambda: fleet.events.change(only_event(fleet).id, CANCELED, "anna: no", "anna"))

    outcome = outcome_of(fleet.patch(start=start, **ANNOUNCE), "web")

    assert (web.boots.orders, outcome.reboot) == ([], RebootState.REQUIRED)
    assert "its scheduled event was withdrawn: anna: no" in reason_of(outcome)
    assert only_event(fleet).status is CANCELED


def test_an_event_that_is_withdrawn_while_the_reboot_waits_for_others_does_not_happen(fleet: SimFleet) -> None:
    web = asks(fleet)
    after(fleet, 60, lambda: approve(fleet, "web"))
    web.on_start("install", 0.5, lambda: lock_packages(web, 600))
    after(fleet, 300, lambda: fleet.events.change(only_event(fleet).id, CANCELED, "anna: no", "anna"))

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    assert (web.boots.orders, outcome.reboot) == ([], RebootState.REQUIRED)
    assert "its scheduled event was withdrawn: anna: no" in reason_of(outcome)


def lock_packages(machine: SimMachine, seconds: float) -> None:
    """Let somebody else change packages from now on."""
    now = machine.fake_clock.now()
    machine.world.locks = (*machine.world.locks, (now, now + timedelta(seconds=seconds)))


def test_an_order_that_the_machine_refuses_is_told_to_be_over(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.boots.refuses = "the disk is full"

    outcome = outcome_of(fleet.patch(**ANNOUNCE), "web")

    event = only_event(fleet)
    assert (web.boots.count, event.status) == (0, COMPLETED)
    assert "the disk is full" in reason_of(outcome)
    assert "the disk is full" in event.reason


def test_a_machine_that_fails_before_withdraws_it(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", fails="no", requires_reboot=True)])

    fleet.patch(**ANNOUNCE)

    assert web.boots.orders == []
    assert only_event(fleet).status is CANCELED


def test_a_machine_that_does_not_come_back_is_started_until_the_run_ends(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.boots.up_after = None
    seen: list[EventStatus] = []
    after(fleet, 40 * 60, lambda: seen.append(only_event(fleet).status))

    fleet.patch(**ANNOUNCE)

    assert seen == [STARTED]
    assert (only_event(fleet).status, only_event(fleet).reason) == (
        COMPLETED,
        "the run is over, and it has not come back",
    )


def test_an_early_reboot_and_the_one_after_the_installation_are_two_events(fleet: SimFleet) -> None:
    web = asks(fleet)
    web.world.shelf.reboot_reasons.append("from before")

    fleet.patch(reboot_pending_first=True, **ANNOUNCE)

    assert [line for line in fleet.events.story if line.startswith("Completed")] == [
        "Completed early-reboot/0 of web",
        "Completed reboot/0 of web",
    ]
    assert web.boots.count == 2


def test_restarts_of_services_are_announced_as_a_freeze(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("libssl", used_by=("nginx.service",))])

    fleet.patch(restart_services="IfRequired", **ANNOUNCE)

    web.world.catch_up()
    event, ((restarted_at, _, _),) = only_event(fleet), web.world.services.restarted
    assert (event.event_type, event.status) == (EventType.FREEZE, COMPLETED)
    assert event.started_at is not None
    assert event.announced_at + NOTICE <= event.started_at <= restarted_at


def test_restarts_of_services_whose_notice_does_not_fit_are_left(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("libssl", used_by=("nginx.service",), requires_reboot=False)])

    fleet.patch(restart_services="IfRequired", minutes=10, reboot_reserve_minutes=1, **ANNOUNCE)

    web.world.catch_up()
    assert [begun.work for begun in web.begun()] == ["stage", "install"]
    assert (fleet.events.events, web.world.services.restarted) == ({}, [])


def test_every_member_of_a_set_is_told_and_only_the_own_approval_counts() -> None:
    fleet = SetFleet(clock=WakingClock())
    for name in ("one", "two"):
        machine = asks(fleet, name)
        machine.answer("hook", fleet._hook)
        machine.answer("probe", lambda script, name=name: fleet._probe(name, script))  # type: ignore[misc]
    fleet.add_set("web", "one", "two")
    after(fleet, 60, lambda: approve(fleet, "two"))

    fleet.run(fleet.request(**ANNOUNCE))

    first = next(event for event in fleet.events.events.values() if event.resources == ("one",))
    assert first.audience == ("one", "two")
    assert first.started_at is not None
    assert first.started_at >= first.not_before


def test_any_member_may_approve_if_the_request_says_so() -> None:
    fleet = SetFleet(clock=WakingClock())
    for name in ("one", "two"):
        machine = asks(fleet, name)
        machine.answer("hook", fleet._hook)
        machine.answer("probe", lambda script, name=name: fleet._probe(name, script))  # type: ignore[misc]
    fleet.add_set("web", "one", "two")
    after(fleet, 60, lambda: approve(fleet, "two"))

    fleet.run(fleet.request(announce={"enabled": True, "approval": "any"}))

    first = next(event for event in fleet.events.events.values() if event.resources == ("one",))
    assert first.started_at is not None
    assert first.started_at < first.not_before - timedelta(minutes=10)


def test_a_run_of_a_configuration_is_the_platforms(fleet: SimFleet) -> None:
    asks(fleet)

    fleet.patch(configuration="nightly", **ANNOUNCE)

    assert only_event(fleet).source is EventSource.PLATFORM


@pytest.mark.parametrize("starter", ["anne", "the schedule of patch-fleet/nightly", "maintenance control"])
def test_what_a_person_applies_is_no_act_of_the_platform(fleet: SimFleet, starter: str) -> None:
    asks(fleet)
    request = fleet.request(configuration="nightly", **ANNOUNCE)
    parts = build_event_parts(request, fleet.ports(), starter)
    assert parts["event_source"] is (EventSource.USER if starter == "anne" else EventSource.PLATFORM)


def test_a_policy_without_reboots_announces_none(fleet: SimFleet) -> None:
    asks(fleet)

    fleet.patch(reboot=RebootPolicy.NEVER, **ANNOUNCE)

    assert fleet.events.events == {}


def test_a_plan_announces_nothing(fleet: SimFleet) -> None:
    asks(fleet)

    fleet.patch(dry_run=True, **ANNOUNCE)

    assert fleet.events.events == {}


def test_a_process_that_can_not_announce_refuses_the_run(fleet: SimFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asks(fleet)
    monkeypatch.setattr(fleet, "events", None)

    with pytest.raises(RequestError, match="can't announce interruptions"):
        fleet.patch(**ANNOUNCE)


def test_records_that_fail_let_nothing_reboot_unannounced(fleet: SimFleet) -> None:
    web = asks(fleet)
    fleet.events.away = float("inf")

    with pytest.raises(Exception, match="records are away"):
        fleet.patch(**ANNOUNCE)

    assert (web.begun(), web.boots.orders) == ([], [])


def test_a_clock_that_is_set_back_while_it_waits_loses_and_doubles_nothing(fleet: SimFleet) -> None:
    web = asks(fleet)
    after(fleet, 300, lambda: fleet.clock.advance(-120))

    fleet.patch(**ANNOUNCE)

    assert web.boots.count == 1
    assert web.boots.ordered_at[0] >= only_event(fleet).not_before
    assert fleet.events.story == ["announce reboot/0 of web", "Started reboot/0 of web", "Completed reboot/0 of web"]


def test_the_run_is_the_one_of_its_events(fleet: SimFleet) -> None:
    asks(fleet)

    fleet.patch(**ANNOUNCE)

    assert [event.run_id for event in fleet.events.find(RUN, "web")] == [RUN]
