"""Members of machine sets that an earlier run left drained: they count until they are brought back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tasks.domain.errors import RecordsError
from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.domain.states import FindingLevel, OperationState
from tests.support.fleet import outcome_of
from tests.support.mortal import Killed, Life
from tests.support.set_fleet import RUN, UNDRAIN, SetFleet

SECOND, THIRD = "20260310-020000-bbbbbb", "20260310-030000-cccccc"
LEFT = f"run {RUN} left it drained"
REMEDY = (
    f"run {RUN} left web-1 drained: patch web-1 again, or bring it back and say `fleetpatch sets release web-1` "
    "(1 of 3 may be out of service)"
)


@pytest.fixture
def fleet() -> SetFleet:
    made = SetFleet()
    made.add_members("web-1", "web-2", "web-3")
    made.add_set("web", "web-1", "web-2", "web-3")
    return made


def leave_drained(fleet: SetFleet) -> None:
    """Patch the first member, with a balancer that does not take it back. Its own check passes."""
    fleet.fails["undrain web-1"] = "no balancer"
    report = fleet.run(fleet.request(scope="name=web-1"))
    assert outcome_of(report, "web-1").state is OperationState.FAILED
    assert fleet.drained == {"web-1": 1}
    assert not fleet.sick
    (slot,) = fleet.slots.find()
    assert (slot.machine, slot.drained, slot.is_left) == ("web-1", True, True)
    fleet.story.clear()


def run_again(fleet: SetFleet, scope: str = "*", run_id: str = SECOND, **waves: object) -> RunReport:
    return fleet.run(fleet.request(scope=scope, waves={"failure_budget_count": 9, **waves}), run_id=run_id)


def states(report: RunReport) -> dict[str, OperationState]:
    return {outcome.machine: outcome.state for outcome in report.outcomes}


def test_the_next_run_of_other_members_takes_none_of_them_out(fleet: SetFleet) -> None:
    leave_drained(fleet)
    fleet.fails.clear()
    began = fleet.clock.now()

    report = run_again(fleet, "name=web-2")

    assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
    assert f"set web: {REMEDY}" in outcome_of(report, "web-2").reason
    assert fleet.story == []  # nor is anything done to a machine outside the scope
    assert fleet.clock.now() - began < timedelta(minutes=8)
    assert [slot.run_id for slot in fleet.slots.find()] == [RUN]


def test_the_next_run_of_that_member_brings_it_back_first(fleet: SetFleet) -> None:
    leave_drained(fleet)
    fleet.fails.clear()

    report = run_again(fleet)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert fleet.story == ["undrain web-1", "drain web-2", "undrain web-2", "drain web-3", "undrain web-3"]
    assert fleet.drained == {"web-1": 0, "web-2": 0, "web-3": 0}
    assert fleet.slots.most == {"web": 1}
    assert fleet.slots.stored == {}
    (finding,) = [each for each in outcome_of(report, "web-1").findings if each.check == "set web"]
    assert finding.level is FindingLevel.GOOD
    assert finding.message.startswith(f"brought back into set web: {LEFT}")
    assert any(note.startswith(f"web-1 was brought back into set web: {LEFT}") for note in report.notes)


def test_it_is_brought_back_before_members_of_earlier_waves_begin(fleet: SetFleet) -> None:
    fleet.sets = ()
    fleet.add_set("web", "web-3", "web-2", "web-1")
    fleet.described.reverse()
    leave_drained(fleet)
    fleet.fails.clear()

    report = run_again(fleet, size=1)

    assert [wave.machines for wave in report.waves][-1] == ("web-1",)
    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert fleet.story[0] == "undrain web-1"
    assert fleet.slots.most == {"web": 1}


def test_a_member_with_new_updates_is_patched_while_it_is_out(fleet: SetFleet) -> None:
    fleet.fails["drain web-1"] = fleet.fails["undrain web-1"] = "no balancer"
    fleet.run(fleet.request(scope="name=web-1"))
    assert fleet.machines["web-1"].installs() == []
    fleet.fails.clear()
    fleet.story.clear()

    report = run_again(fleet)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert fleet.story[:2] == ["drain web-1", "undrain web-1"]
    assert len(fleet.machines["web-1"].installs()) == 1
    assert fleet.slots.stored == {}


def test_an_undrain_that_fails_again_is_a_failure_and_the_slot_stays(fleet: SetFleet) -> None:
    leave_drained(fleet)

    report = run_again(fleet)

    assert states(report) == {
        "web-1": OperationState.FAILED,
        "web-2": OperationState.NOT_STARTED,
        "web-3": OperationState.NOT_STARTED,
    }
    assert "no balancer" in outcome_of(report, "web-1").reason
    assert "web-1 is still out of service: hook set web: undrain failed" in outcome_of(report, "web-2").reason
    assert fleet.story == ["undrain web-1"]
    (slot,) = fleet.slots.find()
    assert (slot.machine, slot.run_id, slot.drained, slot.is_left) == ("web-1", SECOND, True, True)
    fleet.fails.clear()
    assert set(states(run_again(fleet, run_id=THIRD)).values()) == {OperationState.SUCCEEDED}


def test_a_member_that_is_not_healthy_is_not_brought_back(fleet: SetFleet) -> None:
    leave_drained(fleet)
    fleet.fails.clear()
    fleet.sick["web-1"] = "503"

    report = run_again(fleet)

    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert LEFT in outcome.reason
    assert "it is not brought back, because it is not healthy: up: " in outcome.reason
    assert states(report)["web-2"] is OperationState.NOT_STARTED
    assert fleet.story == []
    (slot,) = fleet.slots.find()
    assert slot.drained


def test_an_undrain_that_may_not_run_twice_is_left_to_people(fleet: SetFleet) -> None:
    leave_drained(fleet)
    fleet.fails.clear()
    undrain = replace(UNDRAIN, repeatable=False)
    fleet.sets = tuple(replace(each, undrain=undrain) for each in fleet.sets)

    report = run_again(fleet, "name=web-1")

    assert outcome_of(report, "web-1").state is OperationState.COMPLETED_WITH_WARNINGS
    assert "is not marked as repeatable" in outcome_of(report, "web-1").reason
    assert fleet.story == []
    assert any("web-1 stays drained" in note and "fleetpatch sets release web-1" in note for note in report.notes)


def test_sets_without_drain_have_no_drained_members(fleet: SetFleet) -> None:
    fleet.sets = ()
    fleet.add_set("web", "web-1", "web-2", "web-3", drain=None)
    fleet.fails["undrain web-1"] = "no balancer"
    fleet.run(fleet.request(scope="name=web-1"))
    assert fleet.slots.find() == ()
    assert run_again(fleet, "name=web-2").outcomes[0].state is OperationState.SUCCEEDED


def test_it_is_recorded_before_the_drain_begins_and_until_the_undrain_has_succeeded(fleet: SetFleet) -> None:
    seen = []
    inner = fleet._hook

    def hook(script: object) -> object:
        seen.append([slot.drained for slot in fleet.slots.find()])
        return inner(script)  # type: ignore[arg-type]

    fleet.machines["web-1"].answer("hook", hook)  # type: ignore[arg-type]
    fleet.run(fleet.request(scope="name=web-1"))
    assert seen == [[True], [True]]


def test_records_that_do_not_take_it_prevent_the_drain(fleet: SetFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RecordsError("disk full", hint="")

    monkeypatch.setattr(fleet.slots, "mark_drained", fail)
    with pytest.raises(RecordsError):
        fleet.run(fleet.request(scope="name=web-1"))
    assert fleet.story == []
    assert fleet.machines["web-1"].installs() == []


def kill_while_installing(fleet: SetFleet) -> None:
    life = Life()
    fleet.machines["web-1"].on_start("install", 5, lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        fleet.run(fleet.request(), life=life)
    assert fleet.story == ["drain web-1"]


def test_a_member_of_a_run_that_was_finalized_while_it_was_unreachable(fleet: SetFleet) -> None:
    kill_while_installing(fleet)
    fleet.machines["web-1"].cut(1e7)
    fleet.run(fleet.request(), again=True, finalize="people asked")

    report = run_again(fleet, "name=web-2")

    assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
    assert REMEDY in outcome_of(report, "web-2").reason


def test_a_controller_that_dies_as_soon_as_it_has_taken_the_member_over(fleet: SetFleet) -> None:
    leave_drained(fleet)
    fleet.fails.clear()
    take, life = fleet.slots.take, Life()

    def die_after(slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        told = take(slots, may_take)
        life.dead = True
        return told

    fleet.slots.take = die_after  # type: ignore[method-assign]
    with pytest.raises(Killed):
        fleet.run(fleet.request(), run_id=SECOND, life=life)
    fleet.slots.take = take  # type: ignore[method-assign]
    assert [(slot.run_id, slot.drained) for slot in fleet.slots.find()] == [(SECOND, True)]

    report = fleet.run(fleet.request(), again=True, run_id=SECOND)

    assert set(states(report).values()) == {OperationState.SUCCEEDED}
    assert fleet.story[0] == "undrain web-1"
    assert fleet.drained == {"web-1": 0, "web-2": 0, "web-3": 0}
    assert any(note.startswith(f"web-1 was brought back into set web: {LEFT}") for note in report.notes)


def test_a_member_that_may_not_be_changed_is_brought_back_all_the_same(fleet: SetFleet) -> None:
    fleet.fails["drain web-1"] = fleet.fails["undrain web-1"] = "no balancer"
    fleet.run(fleet.request(scope="name=web-1"))
    fleet.fails.clear()
    fleet.story.clear()
    fleet.sick["web-3"] = "503"

    report = run_again(fleet, "name=web-1")

    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.NOT_STARTED
    assert "web-3 is not healthy" in outcome.reason
    assert fleet.story == ["undrain web-1"]
    assert fleet.machines["web-1"].installs() == []
    assert fleet.slots.stored == {}


def test_a_dry_run_names_the_members_that_are_left(fleet: SetFleet) -> None:
    leave_drained(fleet)
    report = fleet.run(fleet.request(dry_run=True), run_id=SECOND)
    assert any(f"run {RUN} left web-1 drained" in note and "brings it back" in note for note in report.notes)
    report = fleet.run(fleet.request(dry_run=True, scope="name=web-2"), run_id=THIRD)
    assert any("fleetpatch sets release web-1" in note for note in report.notes)
    assert fleet.story == []
