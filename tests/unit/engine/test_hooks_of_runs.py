"""What surrounds the machines of a run: the gate, the hooks of run and waves, who is told, and the window's lead."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from flows.ports.ports import GateDecision
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import EmptyScopeError, RecordsError
from tasks.domain.model import RunReport
from tasks.domain.states import HookPoint, NotificationOccasion, OperationState
from tests.support.fleet import SimFleet, outcome_of
from tests.unit.engine.hook_stage import Broken, Owner, asked_for, every_place, hook, run, small_fleet

NOT_STARTED, FAILED, SUCCEEDED = OperationState.NOT_STARTED, OperationState.FAILED, OperationState.SUCCEEDED


def states(report: RunReport) -> list[OperationState]:
    return [outcome.state for outcome in report.outcomes]


def untouched(fleet: SimFleet) -> bool:
    return not any(machine.jobs() for machine in fleet.machines.values())


def test_the_order_of_a_run() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, takes={place.value: 1.0 for place in HookPoint})

    report = run(owner, asked_for(fleet, every_place()))

    assert owner.asked == [
        "gate",
        "before_run/before_run/run",
        "before_wave/before_wave/wave 1",
        "before_machine/before_machine/first",
        "after_machine/after_machine/first",
        "after_wave/after_wave/wave 1",
        "before_wave/before_wave/wave 2",
        "before_machine/before_machine/second",
        "after_machine/after_machine/second",
        "after_wave/after_wave/wave 2",
        "after_run/after_run/run",
    ]
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.STARTED, NotificationOccasion.FINISHED]
    assert report.run.state is SUCCEEDED
    assert [f"{r.hook.place}/{r.hook.name}/{r.subject}" for r in report.hooks] == owner.asked[1:]
    assert fleet.records.reports[report.run.id].hooks == report.hooks


def test_the_gate_sees_the_plan_and_a_dry_run_asks_nobody() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    run(owner, asked_for(fleet, every_place(), dry_run=True))
    assert (owner.asked, owner.told) == ([], [])

    run(owner, asked_for(fleet, every_place()))
    (planned,) = owner.gates
    assert [plan.machine for plan in planned.plans] == ["first", "second"]
    assert [wave.machines for wave in planned.waves] == [("first",), ("second",)]


def test_a_refusal_begins_nothing_and_is_reported() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, decision=GateDecision(refusal="nobody approved it", notes=("asked Ada",)))

    report = run(owner, asked_for(fleet, every_place()))

    assert owner.asked == ["gate"]
    assert untouched(fleet)
    assert (states(report), report.run.state) == ([NOT_STARTED] * 2, NOT_STARTED)
    assert {outcome.reason for outcome in report.outcomes} == {"nobody approved it"}
    assert report.notes == ("asked Ada",)
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.FINISHED]
    assert set(fleet.records.outcomes) == {(report.run.id, "first"), (report.run.id, "second")}


def test_plans_that_were_agreed_to_replace_ours() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    def trims(planned: RunReport, control: object) -> GateDecision:
        (plan,) = [plan for plan in planned.plans if plan.machine == "first"]
        return GateDecision(plans={"first": replace(plan, chosen=())}, notes=("Ada: only the second",))

    owner.gate = trims  # type: ignore[method-assign]
    report = run(owner, asked_for(fleet, {}))

    assert not fleet.machines["first"].installs()
    assert fleet.machines["second"].installs()
    assert report.notes == ("Ada: only the second",)
    assert fleet.records.reports[report.run.id].notes == report.notes


@pytest.mark.parametrize("error", [Broken("the records are gone"), KeyError("oops")])
def test_a_gate_that_breaks_lets_nothing_through(error: Exception) -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    def breaks(planned: RunReport, control: object) -> GateDecision:
        raise error

    owner.gate = breaks  # type: ignore[method-assign]
    report = run(owner, asked_for(fleet, every_place()))

    assert untouched(fleet)
    assert states(report) == [NOT_STARTED] * 2
    assert "could not be checked" in outcome_of(report, "first").reason


def test_people_who_can_not_be_told_stop_nothing() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    def breaks(occasion: NotificationOccasion, report: RunReport) -> None:
        raise RuntimeError("no such chat")

    owner.tell = breaks  # type: ignore[method-assign]
    assert run(owner, asked_for(fleet, {})).run.state is SUCCEEDED


def test_a_failing_hook_before_the_run_stops_it() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, fails={"before_run": "the ticket is not open"})

    report = run(owner, asked_for(fleet, every_place()))

    assert owner.asked == ["gate", "before_run/before_run/run", "after_run/after_run/run"]
    assert untouched(fleet)
    assert states(report) == [NOT_STARTED] * 2
    assert "the ticket is not open" in outcome_of(report, "second").reason
    assert "the ticket is not open" in report.run.message
    assert report.run.state is FAILED
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.FAILED]


def test_a_failing_hook_before_a_wave_stops_it_and_the_later_ones() -> None:
    fleet = small_fleet("first", "second", "third")
    owner = Owner(fleet)
    owner.does = {"before_wave": lambda: owner.fails.update({"before_wave": "no"} if len(owner.asked) > 4 else {})}

    report = run(owner, asked_for(fleet, every_place()))

    assert states(report) == [SUCCEEDED, NOT_STARTED, NOT_STARTED]
    assert "before the wave" in outcome_of(report, "third").reason
    assert report.run.state is FAILED
    assert owner.asked[-3:] == [
        "before_wave/before_wave/wave 2",
        "after_wave/after_wave/wave 2",
        "after_run/after_run/run",
    ]


def test_a_failing_hook_after_a_wave_fails_the_run_and_stops_the_later_waves() -> None:
    fleet = small_fleet()
    report = run(Owner(fleet, fails={"after_wave": "smoke"}), asked_for(fleet, every_place()))

    assert states(report) == [SUCCEEDED, NOT_STARTED]
    assert report.run.state is FAILED


@pytest.mark.parametrize("place", ["before_run", "after_run", "before_wave", "after_wave"])
@pytest.mark.parametrize(
    ("mode", "state"), [("warn", OperationState.COMPLETED_WITH_WARNINGS), ("ignore", OperationState.SUCCEEDED)]
)
def test_a_hook_that_may_fail_stops_nothing(place: str, mode: str, state: OperationState) -> None:
    fleet = small_fleet()
    owner = Owner(fleet, fails={"h": "no"})

    report = run(owner, asked_for(fleet, {place: [hook("h", mode=mode)]}))

    assert states(report) == [SUCCEEDED] * 2
    assert report.run.state is state


def test_a_failing_hook_after_the_run_fails_the_run() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, fails={"after_run": "no"})

    report = run(owner, asked_for(fleet, every_place()))

    assert (states(report), report.run.state) == ([SUCCEEDED] * 2, FAILED)
    assert owner.told[-1] is NotificationOccasion.FAILED
    assert owner.reports["after_run"].outcomes == report.outcomes


def test_a_stop_during_a_hook_before_the_run() -> None:
    fleet = small_fleet()
    owner = Owner(
        fleet, does={"before_run": lambda: fleet.control.request_stop("not today")}, fails={"before_run": "given up"}
    )

    report = run(owner, asked_for(fleet, every_place()))

    assert owner.asked == ["gate", "before_run/before_run/run", "after_run/after_run/run"]
    assert states(report) == [NOT_STARTED] * 2
    assert outcome_of(report, "first").reason == "the run was asked to stop: not today"
    assert report.run.state is NOT_STARTED
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.CANCELLED]


def test_a_run_that_is_stopped_before_its_hooks_runs_none() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    fleet.control.request_stop("not today")

    run(owner, asked_for(fleet, every_place()))

    assert owner.asked == ["gate"]
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.CANCELLED]


def test_a_stop_in_a_wave_keeps_later_waves_and_their_hooks_from_beginning() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    fleet.machines["first"].on_start("install", 1, lambda: fleet.control.request_stop("enough"))

    report = run(owner, asked_for(fleet, every_place()))

    assert not any(each.startswith("before_wave/before_wave/wave 2") for each in owner.asked)
    assert not any(each.endswith("second") for each in owner.asked)
    assert owner.asked[-2:] == ["after_wave/after_wave/wave 1", "after_run/after_run/run"]
    assert outcome_of(report, "second").state is NOT_STARTED


def test_the_window_ends_during_a_hook_before_the_run() -> None:
    fleet = small_fleet()
    owner = Owner(fleet, takes={"before_run": 7200})

    report = run(owner, asked_for(fleet, every_place(), minutes=60))

    assert untouched(fleet)
    assert states(report) == [NOT_STARTED] * 2
    assert NotificationOccasion.STARTED not in owner.told


def _lead(request: PatchRequest, minutes: float) -> PatchRequest:
    return request.model_copy(update={"window": request.window.model_copy(update={"lead_minutes": minutes})})


def _opens_in(fleet: SimFleet, owner: Owner, minutes: float, lead: float) -> RunReport:
    start = fleet.clock.now() + timedelta(minutes=minutes)
    return run(owner, _lead(asked_for(fleet, every_place(), start=start), lead))


def _noting(fleet: SimFleet, owner: Owner) -> Callable[[], float]:
    began = fleet.clock.now()
    at: list[float] = []
    owner.does["before_run"] = lambda: at.append((fleet.clock.now() - began).total_seconds() / 60)
    return lambda: at[0]


def test_with_a_lead_the_hooks_lie_before_the_window_and_have_until_it_opens() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    when = _noting(fleet, owner)

    report = _opens_in(fleet, owner, minutes=120, lead=2)

    assert 118 <= when() < 118.2
    assert report.run.window is not None
    assert owner.deadlines["before_run"] <= report.run.window.start + timedelta(seconds=2)
    assert all(begun.at >= report.run.window.start for m in fleet.machines.values() for begun in m.begun())


def test_without_a_lead_the_hooks_wait_for_the_window() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    when = _noting(fleet, owner)

    _opens_in(fleet, owner, minutes=120, lead=0)

    assert when() >= 120


def test_a_run_that_breaks_off_is_told_of() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)

    with pytest.raises(EmptyScopeError):
        run(owner, asked_for(fleet, {}, scope="name=nobody"))
    assert owner.told == []  # nothing is known of it yet: the caller hears of it

    fleet.records.fail_saves = True
    with pytest.raises(RecordsError):
        run(owner, asked_for(fleet, {}))
    assert owner.told == []

    fleet.records.fail_saves = False
    owner.does["before_run"] = lambda: setattr(fleet.records, "fail_append_at", fleet.records.appends + 1)
    with pytest.raises(RecordsError):
        run(owner, asked_for(fleet, every_place()))
    assert owner.told == [NotificationOccasion.PLANNED, NotificationOccasion.FAILED]


def test_records_that_fail_at_a_hook_begin_nothing() -> None:
    fleet = small_fleet()
    owner = Owner(fleet)
    fleet.records.fail_append_at = 1

    with pytest.raises(Exception, match="told to fail"):
        run(owner, asked_for(fleet, every_place()))

    assert "before_run/before_run/run" not in owner.asked
    assert untouched(fleet)
    assert owner.told[-1] is NotificationOccasion.FAILED
