from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.domain.states import Classification, OperationState
from tasks.rules.automatic.decision import decide
from tasks.rules.automatic.forecast import forecast
from tasks.rules.automatic.model import (
    ActiveRun,
    AssessMachines,
    AutomaticPolicy,
    ChangeRollout,
    CreateRollout,
    CveRisk,
    DueUpdate,
    FleetView,
    HeldUpdate,
    HoldUpdate,
    MachineView,
    Phase,
    RiskRule,
    Rollout,
    RolloutState,
    StartRun,
    Tell,
    Try,
)
from tasks.rules.calendar.freezes import Freeze
from tests.support.automatic_year.fleet import Setting
from tests.support.automatic_year.simulation import simulate

NIGHT = datetime(2025, 3, 3, 22, 30, tzinfo=UTC)  # off-peak hours began at 22:00
NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = AutomaticPolicy(canary_locations=("a",))
SECURITY = Classification.SECURITY


def update(name="libc", version="1", classification=SECURITY, since=NOON - DAY, **more):
    return DueUpdate(name, version, classification, since, **more)


LIBC = update()


def machine(name="m1", location="a", now=NIGHT, pending=(LIBC,), **more):
    known = {"last_seen": now - HOUR, "assessed_at": now - HOUR, "asked_at": now - HOUR, "is_healthy": True}
    return MachineView(name, location, pending=tuple(pending), **known | more)


def rollout(*phases, number=1, created_at=NOON, updates=(("libc", "1"),), **more):
    return Rollout(f"rollout-{number:04}", created_at, frozenset(updates), phases or (Phase(1, ("a",)),), **more)


def tried(name, state=OperationState.SUCCEEDED, at=NIGHT - 20 * HOUR, rollout_id="rollout-0001", **more):
    return Try(rollout_id, f"run-{name}-{at:%d%H}", name, state, at, **more)


def act(view, kind, now=NIGHT, policy=POLICY):
    return [action for action in decide(policy, view, now).actions if isinstance(action, kind)]


def plans(view, now=NIGHT, policy=POLICY):
    return [(action.plan.rollout_id, action.plan.machines) for action in act(view, StartRun, now, policy)]


def why(view, now=NIGHT, policy=POLICY, name="m1"):
    return next((each.reason for each in decide(policy, view, now).waiting if each.machine == name), "")


def test_a_new_rollout_has_what_the_policy_selects():
    pending = (
        update(),
        update("held-here", held="apt-mark"),
        update("held-for-all", "2"),
        update("feature", classification=Classification.OTHER),
        update("esm", classification=Classification.SECURITY_ESM),
        update("KB1", "rev 200 00000001-0000-4000-8000-000000000000"),
        update("kernel-x"),
    )
    view = FleetView(
        (machine(pending=pending), machine("m2", "b", opted_out="no", pending=(update("other"),))),
        held_updates=(
            HeldUpdate("held-for-all", "2", "it failed", NOON),
            HeldUpdate("KB1", "rev 200", "it failed", NOON),  # as release 0.1.0 has recorded it
        ),
    )
    (created,) = act(view, CreateRollout, policy=replace(POLICY, exclude=("kernel-*=5",)))
    assert created.rollout.updates == {("libc", "1"), ("esm", "1")}
    assert [phase.locations for phase in created.rollout.phases] == [("a",), ("b",)]
    assert created.rollout.id == "rollout-0001"


def test_the_next_rollout_waits_unless_a_deadline_would_be_missed():
    done = rollout(Phase(1, ("a",), NOON, NOON + HOUR), state=RolloutState.COMPLETED, ended_at=NIGHT)
    policy = replace(POLICY, new_rollout_hours=48, risk_rules=(RiskRule(3, known_exploited=True),))
    new = update("curl", since=NIGHT, cves=("CVE-1",))
    view = FleetView((machine(pending=(new,)),), rollouts=(done,))
    assert not act(view, CreateRollout, policy=policy)
    later = replace(view, machines=(machine(pending=(new,), now=NOON + 48 * HOUR),))
    assert not act(later, CreateRollout, NOON + 47 * HOUR, policy)
    (created,) = act(later, CreateRollout, NOON + 48 * HOUR, policy)
    assert created.rollout.id == "rollout-0002"
    exploited = replace(view, risks={"CVE-1": CveRisk(exploited_since=date(2025, 3, 3))})
    assert act(exploited, CreateRollout, policy=policy)
    again = replace(exploited, rollouts=(replace(done, updates=frozenset({("curl", "1")})),))
    assert not act(again, CreateRollout, policy=policy)


def test_a_rollout_is_frozen_when_its_first_run_starts():
    two = machine(pending=(update(), update("curl")))
    (changed,) = act(FleetView((two,), rollouts=(rollout(),)), ChangeRollout)
    assert changed.rollout.updates == {("libc", "1"), ("curl", "1")}
    assert changed.rollout.phases[0].started_at == NIGHT
    started = rollout(Phase(1, ("a",), NOON))
    assert not act(FleetView((two,), rollouts=(started,)), ChangeRollout)


def test_a_run_has_the_machines_of_one_zone_and_a_key_that_does_not_change():
    fleet = (
        machine("m1", availability_zone="1"),
        machine("m2", availability_zone="2", pending=(update(since=NOON - 9 * DAY),)),
        machine("m3", availability_zone="2", zone="Asia/Tokyo"),
        machine("m4", "b"),
    )
    view = FleetView(fleet, rollouts=(rollout(Phase(1, ("a",)), Phase(2, ("b",))),))
    assert plans(view) == [("rollout-0001", ("m2",))]
    (start,) = act(view, StartRun)
    assert start.plan.window_minutes == 235
    (late,) = act(view, StartRun, NIGHT + 3 * HOUR + HOUR / 2)
    assert late.plan.key == start.plan.key
    assert late.plan.window_minutes == 235
    (last,) = act(view, StartRun, NIGHT + 6 * HOUR)
    assert last.plan.window_minutes == 90
    busy = replace(view, active_runs=(ActiveRun("r", ("m2",), start.plan),))
    assert not plans(busy)
    assert why(busy) == "availability zone 2 of its location is being patched"
    assert "phase 2 of rollout-0001 has not begun" in why(busy, name="m4")


@pytest.mark.parametrize(
    ("change", "now", "reason"),
    [
        ({"opted_out": "ann: audit"}, NIGHT, "it is not patched automatically: ann: audit"),
        ({"last_seen": NIGHT - 3 * HOUR, "assessed_at": None}, NIGHT, "it does not answer; it is asked every hour"),
        ({}, NOON, "its off-peak hours have not begun"),
        ({}, NIGHT + 7 * HOUR, "too little is left of its off-peak hours"),
        ({"zone": "Asia/Tokyo"}, NIGHT, "its off-peak hours have not begun"),
    ],
)
def test_machines_wait_with_a_reason(change, now, reason):
    view = FleetView((replace(machine(now=NIGHT), **change),), rollouts=(rollout(),))
    assert not plans(view, now)
    assert why(view, now) == reason


def test_a_machine_that_can_be_woken_gets_its_turn():
    view = FleetView((machine(last_seen=NIGHT - 2 * DAY, assessed_at=None, can_wake=True),), rollouts=(rollout(),))
    assert plans(view)


def test_nothing_starts_when_the_window_touches_a_freeze():
    freeze = Freeze(NIGHT + 3 * HOUR, NIGHT + 5 * HOUR, "closing")
    view = FleetView((machine(),), rollouts=(rollout(),), freezes=(freeze,))
    assert not plans(view)
    assert why(view) == "nothing may be changed: closing"
    assert plans(replace(view, freezes=(Freeze(NIGHT + 4 * HOUR, NIGHT + 5 * HOUR),)))


def test_a_set_with_unhealthy_members_is_left_alone():
    fleet = [machine(f"m{number}", sets=("web",)) for number in range(1, 6)]
    view = FleetView(tuple(fleet), rollouts=(rollout(),), set_sizes={"web": 5})
    assert len(plans(view)[0][1]) == 5
    one_bad = replace(view, machines=(*fleet[:4], replace(fleet[4], is_healthy=False)))
    assert plans(one_bad)
    two_bad = replace(one_bad, machines=(*fleet[:3], replace(fleet[3], last_seen=None, assessed_at=None), fleet[4]))
    two_bad = replace(two_bad, machines=(*two_bad.machines[:4], one_bad.machines[4]))
    assert not plans(two_bad)
    assert why(two_bad) == "2 of 5 members of the set web are unhealthy or not seen"


def test_a_machine_has_one_turn_in_a_night_and_so_many_tries():
    started = rollout(Phase(1, ("a",), NOON - 4 * DAY), created_at=NOON - 5 * DAY)
    failed = [tried("m1", OperationState.FAILED, NIGHT - number * DAY) for number in range(3)]
    many = tuple(machine(f"m{number}") for number in range(1, 41))  # so that one failure is no fault
    tonight = FleetView(many, rollouts=(started,), tries=(replace(failed[0], ended_at=NIGHT - HOUR / 4),))
    assert why(tonight) == "it had its turn in these off-peak hours"
    spent = FleetView(many, rollouts=(started,), tries=tuple(failed))
    assert why(spent) == "it was tried 3 times in rollout-0001"
    assert [tell.key for tell in act(spent, Tell)] == ["out-of-tries/rollout-0001/m1"]
    assert not act(replace(spent, announced=frozenset({"out-of-tries/rollout-0001/m1"})), Tell)
    unused = tuple(replace(each, began=False, state=OperationState.NOT_STARTED) for each in failed[1:])
    assert any("m1" in machines for _, machines in plans(FleetView(many, rollouts=(started,), tries=unused)))


def test_the_next_phase_begins_after_success_and_the_soak_time():
    phases = (Phase(1, ("a",), NIGHT - 3 * DAY), Phase(2, ("b",)))
    done = machine("m1", pending=())
    view = FleetView(
        (done, machine("m2", "b")),
        rollouts=(rollout(*phases, created_at=NIGHT - 4 * DAY),),
        tries=(tried("m1", installed=(("libc", "1"),)),),
    )
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.phases[0].ended_at == NIGHT
    assert not plans(view)
    later = replace(view, rollouts=(changed.rollout,), machines=(done, machine("m2", "b", NIGHT + DAY)))
    later = replace(later, machines=(replace(done, last_seen=NIGHT + DAY), later.machines[1]))
    assert not plans(later, NIGHT + 23 * HOUR)
    assert plans(later, NIGHT + 24 * HOUR) == [("rollout-0001", ("m2",))]


def test_a_machine_that_installed_one_of_two_offered_versions_is_done():
    both = machine("m1", pending=(update(), update(version="2")), assessed_at=NIGHT - 2 * DAY)
    started = rollout(Phase(1, ("a",), NIGHT - DAY), updates=(("libc", "1"), ("libc", "2")))
    view = FleetView((both,), rollouts=(started,), tries=(tried("m1", installed=(("libc", "2"),)),))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.phases[0].ended_at == NIGHT


def test_a_phase_that_misses_its_share_faults_the_rollout_and_its_updates_are_held():
    bad = tried("m1", OperationState.FAILED, failed_updates=(("libc", "1", "it broke"),))
    tries = tuple(replace(bad, run_id=f"run-{day}", ended_at=NIGHT - day * DAY) for day in (1, 2, 3))
    view = FleetView((machine(),), rollouts=(rollout(Phase(1, ("a",), NIGHT - 4 * DAY)),), tries=tries)
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert [(each.update.name, each.update.reason) for each in act(view, HoldUpdate)] == [("libc", "it broke")]
    told = {tell.key: tell.message for tell in act(view, Tell)}
    assert "libc=1 (it broke)" in told["faulted/rollout-0001"]
    assert not plans(view)


def test_people_are_told_of_a_fault_later_if_they_could_not_be_told_at_once():
    """The rollout is stored as faulted all the same, so no later decision finds the fault itself."""
    over = rollout(Phase(1, ("a",), NIGHT - DAY))
    over = replace(over, state=RolloutState.FAULTED, ended_at=NIGHT - HOUR, message="phase 1: all failed")
    held = HeldUpdate("libc", "1", "it broke", NIGHT - HOUR, "rollout-0001")
    view = FleetView((machine(),), rollouts=(over,), held_updates=(held,))
    told = {tell.key: tell.message for tell in act(view, Tell)}
    assert told["faulted/rollout-0001"].startswith(
        "rollout-0001 is faulted: phase 1: all failed; held from now on: libc=1"
    )
    announced = frozenset({"faulted/rollout-0001"})
    assert "faulted/rollout-0001" not in {tell.key for tell in act(replace(view, announced=announced), Tell)}
    old = replace(over, ended_at=NIGHT - 8 * DAY)
    assert "faulted/rollout-0001" not in {tell.key for tell in act(replace(view, rollouts=(old,)), Tell)}


def test_unhealthy_machines_fault_a_rollout_and_what_they_installed_is_held():
    sick = machine("m1", pending=(), is_healthy=False)
    good = tried("m1", installed=(("libc", "1"),))
    view = FleetView((sick,), rollouts=(rollout(Phase(1, ("a",), NIGHT - DAY, NIGHT - HOUR)),), tries=(good,))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.state is RolloutState.FAULTED
    assert [each.update.name for each in act(view, HoldUpdate)] == ["libc"]


def test_a_machine_that_was_off_catches_up_with_the_completed_rollout():
    done = rollout(
        Phase(1, ("a",), NIGHT - 4 * DAY, NIGHT - 3 * DAY), state=RolloutState.COMPLETED, created_at=NIGHT - 5 * DAY
    )
    rolling = rollout(
        Phase(1, ("b",), NOON), Phase(2, ("a",)), number=2, updates=(("libc", "1"), ("curl", "1")), created_at=NOON
    )
    view = FleetView((machine(pending=(update(), update("curl"))), machine("m2", "b")), rollouts=(done, rolling))
    assert ("rollout-0001", ("m1",)) in plans(view)
    assert not act(FleetView((machine(),), rollouts=(done,)), CreateRollout)


def test_locations_that_were_paused_meanwhile_do_not_catch_up_all_at_once():
    """People pause everything after the canaries. The rollout ends; what is resumed goes in phases again."""
    ran = Phase(1, ("a",), NIGHT - 4 * DAY, NIGHT - 3 * DAY)
    phases = (ran, Phase(2, ("b",)), Phase(3, ("c",)))
    paused = tuple(machine(f"m{place}", place, opted_out="paused by ann") for place in "bc")
    view = FleetView((machine(pending=()), *paused), rollouts=(rollout(*phases, created_at=NIGHT - 5 * DAY),))
    view = replace(view, tries=(tried("m1", at=NIGHT - 4 * DAY, installed=(("libc", "1"),)),))
    (ended,) = act(view, ChangeRollout)
    assert ended.rollout.state is RolloutState.COMPLETED
    resumed = tuple(replace(each, opted_out="") for each in view.machines)
    view = replace(view, machines=resumed, rollouts=(ended.rollout,))
    assert not plans(view)
    (created,) = act(view, CreateRollout)
    assert [phase.locations for phase in created.rollout.phases] == [("b",), ("a", "c")]


def test_a_phase_does_not_wait_for_a_machine_that_is_off():
    off = machine("m2", last_seen=NIGHT - 20 * DAY, assessed_at=NIGHT - 20 * DAY)
    done = machine("m1", pending=())
    view = FleetView((done, off), rollouts=(rollout(Phase(1, ("a",), NIGHT - DAY)),), tries=(tried("m1"),))
    (changed,) = act(view, ChangeRollout)
    assert changed.rollout.phases[0].ended_at == NIGHT
    assert [tell.key.split("/")[0] for tell in act(view, Tell)] == ["unseen"]


def test_an_outage_of_the_canary_location_does_not_let_the_others_go_first():
    off = machine("m1", last_seen=NIGHT - 2 * DAY, assessed_at=NIGHT - 2 * DAY)
    view = FleetView((off, machine("m2", "b")), rollouts=(rollout(Phase(1, ("a",)), Phase(2, ("b",))),))
    assert not plans(view)
    gone = replace(off, last_seen=NIGHT - 4 * DAY, assessed_at=NIGHT - 4 * DAY)
    assert not plans(replace(view, machines=(gone, machine("m2", "b"))))


def test_canaries_that_were_assessed_too_early_are_asked_before_others_go_first():
    """The update is known of b only. Machines of the canary location may lack it as well: they were asked earlier."""
    early = machine("m1", pending=(), assessed_at=NIGHT - 5 * HOUR, last_seen=NIGHT - 5 * HOUR)
    view = FleetView((early, machine("m2", "b")))
    (created,) = act(view, CreateRollout)
    assert [phase.locations for phase in created.rollout.phases] == [("a",), ("b",)]
    view = replace(view, rollouts=(created.rollout,))
    assert not plans(view)
    (asked,) = act(view, AssessMachines)
    assert asked.machines == ("m1",)
    assert plans(replace(view, machines=(machine("m1"), machine("m2", "b")))) == [("rollout-0001", ("m1",))]
    nothing = replace(early, assessed_at=NIGHT, last_seen=NIGHT)
    assert plans(replace(view, machines=(nothing, machine("m2", "b")))) == [("rollout-0001", ("m2",))]


def test_machines_are_assessed_daily_and_asked_hourly_while_they_are_off():
    def asked(**more):
        return act(FleetView((machine(pending=(), **more),)), AssessMachines)

    assert not asked()
    assert asked(assessed_at=NIGHT - 23 * HOUR, last_seen=NIGHT - 23 * HOUR, asked_at=NIGHT - 23 * HOUR)
    assert not asked(assessed_at=NIGHT - 22 * HOUR, last_seen=NIGHT - 22 * HOUR, asked_at=NIGHT - 22 * HOUR)
    assert asked(assessed_at=NIGHT - 5 * HOUR, last_seen=NIGHT - 5 * HOUR, asked_at=NIGHT - HOUR)
    assert not asked(assessed_at=NIGHT - 5 * HOUR, last_seen=NIGHT - 5 * HOUR, asked_at=NIGHT - HOUR / 2)
    assert asked(assessed_at=None, last_seen=None, asked_at=None)
    many = FleetView(tuple(machine(f"m{number}", assessed_at=None, asked_at=None) for number in range(450)))
    batches = act(many, AssessMachines)
    assert [len(batch.machines) for batch in batches] == [200, 200, 50]
    assert batches == act(many, AssessMachines, NIGHT + HOUR / 4)


def test_people_are_told_before_a_deadline_and_after_it():
    def told(since):
        return [tell.key.split("/")[0] for tell in act(FleetView((machine(pending=(update(since=since),)),)), Tell)]

    assert told(NIGHT - 22 * DAY) == []
    assert told(NIGHT - 24 * DAY) == ["breach-soon"]
    assert told(NIGHT - 30 * DAY) == ["breached"]


def test_switched_off_means_that_nothing_happens():
    decision = decide(replace(POLICY, enabled=False), FleetView((machine(assessed_at=None),)), NIGHT)
    assert not decision.actions
    assert [each.reason for each in decision.waiting] == ["automatic patching is switched off"]


def test_a_forecast_tells_who_is_patched_when_and_who_is_late():
    fleet = (
        machine("m1"),
        machine("m2", "b"),
        machine("m3", "b", opted_out="ann: audit", pending=(update(since=NIGHT - 20 * DAY),)),
        machine("m4", "b", pending=(update(since=NIGHT - 29 * DAY),)),
        machine("m5", pending=()),
    )
    found = {each.machine: each for each in forecast(POLICY, FleetView(fleet), NIGHT)}
    first, second = found["m1"].patched_at, found["m2"].patched_at
    assert first is not None
    assert second is not None
    assert first + DAY <= second <= NIGHT + 5 * DAY
    assert found["m1"].breaches_at is None
    assert found["m3"].breaches_at == NIGHT + 10 * DAY
    assert found["m3"].reason == "it is not patched automatically: ann: audit"
    assert found["m4"].breaches_at == NIGHT + DAY
    assert found["m5"].update is None


# A canary that was off fails after the next phase has begun.
LATE_CANARY = Setting(
    10, 4, 24, timedelta(minutes=30), 4303, 0.0, 0.2, 0.0, 0.0, set_size=5, start=datetime(2022, 10, 10, tzinfo=UTC)
)


@settings(max_examples=10, deadline=None)
@given(
    st.builds(
        Setting,
        machines=st.integers(1, 14),
        locations=st.integers(1, 5),
        days=st.just(24),
        tick=st.sampled_from((30, 60, 120)).map(lambda minutes: timedelta(minutes=minutes)),
        seed=st.integers(0, 10**6),
        failing=st.sampled_from((0.0, 0.1, 0.5)),
        bad_updates=st.sampled_from((0.0, 0.2)),
        missed_ticks=st.sampled_from((0.0, 0.3)),
        doubled_ticks=st.sampled_from((0.0, 0.3)),
        set_size=st.sampled_from((1, 2, 5)),
        start=st.sampled_from((datetime(2022, 3, 1, tzinfo=UTC), datetime(2022, 10, 10, tzinfo=UTC))),
    )
)
@example(LATE_CANARY)
def test_random_fleets_keep_all_rules(setting):
    result = simulate(setting)
    assert not {rule: found for rule, found in result.checker.violations.items() if found}
