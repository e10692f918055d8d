"""Members of machine sets in runs whose controller dies: wherever that is, limits hold and all members come back."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tasks.domain.model import RunReport
from tasks.domain.protocols.leases import SetSlot, SlotRule
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tests.support.fleet import outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.set_fleet import RUN, SetFleet


def make_fleet() -> SetFleet:
    fleet = SetFleet()
    fleet.add_members("web-1", "web-2")
    fleet.add_set("web", "web-1", "web-2")
    return fleet


def count_calls() -> int:
    life = Life()
    fleet = make_fleet()
    fleet.run(fleet.request(), life=life)
    return life.calls


def require_turns_apart(fleet: SetFleet) -> None:
    """No member is drained, and none is changed, while another one is out of service."""
    out: set[str] = set()
    for act in fleet.story:
        verb, machine = act.split()
        assert not out - {machine}, f"{act} while {out} is out of service: {fleet.story}"
        out = {machine} if verb == "drain" else out - {machine}


@pytest.mark.parametrize("after_the_act", [False, True])
def test_wherever_the_controller_dies_each_member_is_patched_and_brought_back(after_the_act: bool) -> None:
    for number in choose_calls(count_calls()):
        fleet = make_fleet()
        with pytest.raises(Killed):
            fleet.run(fleet.request(), life=Life(dies_at=number, after_the_act=after_the_act))
        if RUN not in fleet.records.runs or fleet.records.runs[RUN].state not in UNFINISHED_RUN_STATES:
            continue  # it died before its record, or after its end
        fleet.clock.advance(120)

        report = fleet.run(fleet.request(), again=True)

        assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}, number
        require_turns_apart(fleet)
        assert fleet.slots.most == {"web": 1}
        assert fleet.slots.stored == {}
        assert all(machine.world.whole() for machine in fleet.machines.values())
        assert set(fleet.drained) == {"web-1", "web-2"}
        assert [fleet.story[-1], fleet.story.count("undrain web-1") >= 1] == ["undrain web-2", True], number


def kill_in_the_middle(fleet: SetFleet) -> None:
    """Let the controller die while the first member is drained and its packages are installed."""
    life = Life()
    fleet.machines["web-1"].on_start("install", 5, lambda: setattr(life, "dead", True))
    with pytest.raises(Killed):
        fleet.run(fleet.request(), life=life)
    assert fleet.story == ["drain web-1"]


def patch_with_another_run(fleet: SetFleet, scope: str) -> RunReport:
    return fleet.run(fleet.request(minutes=60, scope=scope), run_id="20260310-020000-bbbbbb")


def test_a_run_whose_controller_died_holds_the_set_until_it_is_reconciled() -> None:
    fleet = make_fleet()
    kill_in_the_middle(fleet)

    report = patch_with_another_run(fleet, "name=web-2")
    assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
    assert f"set web: run {RUN} has web-1 (1 of 2 may be out of service)" in outcome_of(report, "web-2").reason
    assert fleet.machines["web-2"].installs() == []

    fleet.run(fleet.request(), again=True)
    assert fleet.slots.find() == ()
    assert fleet.drained["web-1"] == 0


def test_a_waiting_run_goes_on_when_the_other_one_is_reconciled() -> None:
    fleet = make_fleet()
    kill_in_the_middle(fleet)
    began, sleep, resumed = fleet.clock.now(), fleet.clock.sleep, list[RunReport]()

    def reconcile_after_a_while(seconds: float) -> None:
        sleep(seconds)
        if (fleet.clock.now() - began).total_seconds() > 600 and not resumed:
            fleet.clock.sleep = sleep  # type: ignore[method-assign]
            resumed.append(fleet.run(fleet.request(), again=True, finalize="it is only finalized"))

    fleet.clock.sleep = reconcile_after_a_while  # type: ignore[method-assign]
    report = patch_with_another_run(fleet, "name=web-2")

    assert len(resumed) == 1
    assert outcome_of(report, "web-2").state is OperationState.SUCCEEDED
    require_turns_apart(fleet)


def test_a_drained_member_of_a_run_that_is_only_finalized_is_brought_back() -> None:
    fleet = make_fleet()
    kill_in_the_middle(fleet)
    fleet.clock.advance(5 * 3600)  # its window is over

    report = fleet.run(fleet.request(), again=True)

    assert fleet.story == ["drain web-1", "undrain web-1"]
    assert outcome_of(report, "web-2").state is OperationState.NOT_STARTED
    assert fleet.slots.find() == ()


def test_a_slot_that_was_taken_before_the_machine_was_touched_is_not_in_the_way_of_others() -> None:
    fleet = make_fleet()
    take, life = fleet.slots.take, Life()

    def die_after(slots: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
        told = take(slots, may_take)
        life.dead = True
        return told

    fleet.slots.take = die_after  # type: ignore[method-assign]
    with pytest.raises(Killed):
        fleet.run(fleet.request(), life=life)
    fleet.slots.take = take  # type: ignore[method-assign]
    assert [slot.machine for slot in fleet.slots.find()] == ["web-1"]
    report = fleet.run(fleet.request(), again=True)

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert "release web-1" in fleet.slots.story[:3]


def test_a_member_whose_set_is_gone_at_the_resumption_is_told_to_people() -> None:
    """Nothing of the present inventory would bring it back."""
    fleet = make_fleet()
    kill_in_the_middle(fleet)
    fleet.sets = ()
    fleet.clock.advance(120)

    report = fleet.run(fleet.request(), again=True)

    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "it was drained, and its inventory has no such set any more: set web" in outcome.reason
    assert outcome_of(report, "web-2").state is OperationState.SUCCEEDED


def test_a_member_that_was_brought_back_before_its_set_was_removed_is_no_warning() -> None:
    fleet = make_fleet()
    kill_in_the_middle(fleet)
    entry = next(each for each in fleet.records.journal if each.act == "hook" and each.mark is JournalMark.AFTER)
    fleet.records.append_entry(replace(entry, key="after_machine/set web: undrain/web-1"))
    fleet.sets = ()
    fleet.clock.advance(120)

    report = fleet.run(fleet.request(), again=True)

    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
