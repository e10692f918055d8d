"""Slots of machine sets: the fake, SQLite and PostgreSQL; and real processes that race for the last place of a set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.protocols.leases import SetSlot, SetSlots, SlotRule
from tasks.domain.states import OperationState
from tasks.records.retention import prune_history
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.contract.records_processes import race_for_slots
from tests.contract.records_subjects import BOTH, new_database, opened
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords
from tests.support.fake_set_slots import FakeSetSlots
from tests.support.forked_calls import begin_call, make_barrier


@dataclass
class Sets:
    """Slots, the records beside them, and their clock."""

    slots: SetSlots
    records: FakeRecords | SqlRecords
    clock: FakeClock

    def begin_run(self, run_id: str, state: OperationState = OperationState.IN_PROGRESS) -> None:
        self.records.save(make.make_run(id=run_id, state=state))

    def take(self, machine: str, run_id: str = "run-1", *, sets: Sequence[str] = ("web",), most: int = 1) -> str:
        wanted = [SetSlot(name, machine, run_id, self.clock.now(), "domain-1") for name in sets]
        return self.slots.take(wanted, at_most(most))

    def names(self, *sets: str) -> list[str]:
        return [f"{slot.set_name}/{slot.machine}/{slot.run_id}" for slot in self.slots.find(sets or None)]


def at_most(count: int) -> Callable[[str], SlotRule]:
    """Count the slots of a set by its name."""
    return lambda name: lambda slots: f"{name} is full" if sum(s.set_name == name for s in slots) >= count else ""


@pytest.fixture(params=["fake", *BOTH])
def sets(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sets]:
    clock = FakeClock()
    if request.param == "fake":
        kept = FakeRecords()
        yield Sets(FakeSetSlots(kept, clock), kept, clock)
        return
    with opened(request.param, tmp_path) as records:
        yield Sets(SqlSetSlots(records.database, clock), records, clock)


def test_a_slot_is_held_until_it_is_released(sets: Sets) -> None:
    sets.begin_run("run-1")
    assert sets.take("web-1") == ""
    assert sets.slots.find() == (SetSlot("web", "web-1", "run-1", sets.clock.now(), "domain-1"),)
    assert sets.take("web-2") == "web is full"
    sets.slots.release("run-1", "web-1")
    sets.slots.release("run-1", "web-1")
    assert sets.take("web-2") == ""
    assert sets.names() == ["web/web-2/run-1"]


def test_all_slots_of_a_machine_are_taken_or_none(sets: Sets) -> None:
    sets.begin_run("run-1")
    assert sets.take("db-1", sets=["db"]) == ""
    assert sets.take("both-1", sets=["web", "db"]) == "db is full"
    assert sets.names() == ["db/db-1/run-1"]
    sets.slots.release("run-1", "db-1")
    assert sets.take("both-1", sets=["web", "db"]) == ""
    assert sets.names("db") == ["db/both-1/run-1"]
    sets.slots.release("run-1", "both-1")
    assert sets.names() == []


def test_the_call_may_be_repeated_and_the_slot_keeps_its_beginning(sets: Sets) -> None:
    sets.begin_run("run-1")
    began = sets.clock.now()
    sets.take("web-1")
    sets.clock.advance(60)
    assert sets.take("web-1") == ""
    assert [slot.since for slot in sets.slots.find()] == [began]


def test_the_reason_of_a_slot_that_stays_is_stored_until_the_member_has_its_turn_again(sets: Sets) -> None:
    sets.begin_run("run-1")
    sets.take("web-1", sets=["web", "db"])
    sets.slots.keep("run-1", "web-1", "it did not come back", [])
    sets.slots.keep("run-2", "web-1", "not this one", ["web"])
    assert {slot.reason for slot in sets.slots.find()} == {"it did not come back"}
    assert sets.take("web-1", sets=["web", "db"]) == ""
    assert {slot.reason for slot in sets.slots.find()} == {""}


def test_a_machine_of_another_run_is_refused_whatever_the_rule_says(sets: Sets) -> None:
    sets.begin_run("run-1")
    sets.begin_run("run-2")
    sets.take("web-1")
    assert sets.take("web-1", "run-2", most=9) == "set web: run run-1 has web-1"
    assert sets.names() == ["web/web-1/run-1"]


@pytest.mark.parametrize("state", [OperationState.IN_PROGRESS, OperationState.UNKNOWN])
def test_a_slot_counts_while_its_run_is_unfinished_however_long(sets: Sets, state: OperationState) -> None:
    sets.begin_run("run-1", state)
    sets.take("web-1")
    sets.clock.advance(30 * 24 * 3600)
    assert sets.take("web-2", "run-2") == "web is full"


@pytest.mark.parametrize("state", [OperationState.SUCCEEDED, OperationState.FAILED, OperationState.NOT_STARTED])
def test_the_slots_of_a_finished_run_are_dead(sets: Sets, state: OperationState) -> None:
    sets.begin_run("run-1")
    sets.take("web-1")
    sets.begin_run("run-1", state)
    sets.begin_run("run-2")
    assert sets.names() == []
    assert sets.take("web-1", "run-2") == ""  # the same member
    assert sets.names() == ["web/web-1/run-2"]
    assert sets.slots.find()[0].since == sets.clock.now()


@pytest.mark.parametrize("state", [OperationState.SUCCEEDED, OperationState.FAILED, OperationState.NOT_STARTED])
def test_a_drained_member_outlives_its_run(sets: Sets, state: OperationState) -> None:
    sets.begin_run("run-1")
    sets.take("web-1", sets=["web", "db"])
    sets.slots.mark_drained("run-1", "web-1", ["web"])
    sets.slots.mark_drained("run-2", "web-1", ["db"])
    assert [(slot.set_name, slot.drained, slot.is_left) for slot in sets.slots.find()] == [
        ("db", False, False),
        ("web", True, False),
    ]
    sets.begin_run("run-1", state)
    sets.clock.advance(30 * 24 * 3600)
    assert [(slot.set_name, slot.drained, slot.is_left) for slot in sets.slots.find()] == [("web", True, True)]
    sets.begin_run("run-2")
    assert sets.take("web-2", "run-2") == "web is full"
    sets.slots.release("run-1", "web-1")
    assert sets.take("web-2", "run-2") == ""


def test_the_next_run_of_a_drained_member_takes_its_slots_over(sets: Sets) -> None:
    sets.begin_run("run-1")
    sets.take("web-1", sets=["web", "renamed later"])
    since = sets.clock.now()
    sets.slots.keep("run-1", "web-1", "no balancer", ["web", "renamed later"])
    sets.begin_run("run-1", OperationState.FAILED)
    sets.begin_run("run-2")
    sets.clock.advance(60)

    assert sets.take("web-1", "run-2", most=9) == ""

    reason = "run run-1 left it drained: no balancer"
    taken = SetSlot("web", "web-1", "run-2", since, "domain-1", reason, drained=True)
    assert sets.slots.find() == (taken,)
    assert sets.take("web-1", "run-2") == ""  # again, by the next process of that run
    assert sets.slots.find() == (taken,)
    sets.begin_run("run-2", OperationState.UNKNOWN)
    assert sets.take("web-1", "run-3", most=9) == "set web: run run-2 has web-1"


def test_what_is_kept_says_of_which_sets_the_member_is_drained(sets: Sets) -> None:
    sets.begin_run("run-1")
    sets.take("web-1", sets=["web", "db"])
    sets.slots.mark_drained("run-1", "web-1", ["web", "db"])
    sets.slots.keep("run-1", "web-1", "one undrain failed", ["db"])
    assert {slot.set_name: slot.drained for slot in sets.slots.find()} == {"web": False, "db": True}


def test_the_rule_gets_the_slots_of_all_sets(sets: Sets) -> None:
    """Another run may know the same machines by another name of their set."""
    sets.begin_run("run-1")
    sets.begin_run("run-2")
    sets.take("web-1")
    wanted = SetSlot("shop", "web-2", "run-2", sets.clock.now())
    assert sets.slots.take([wanted], lambda _: lambda slots: " ".join(slot.machine for slot in slots)) == "web-1"
    assert sets.take("web-1", "run-2", sets=["shop"], most=9) == "set web: run run-1 has web-1"


def test_a_slot_without_a_row_of_its_run_counts_for_some_minutes(sets: Sets) -> None:
    sets.take("web-1")
    sets.clock.advance(9 * 60)
    assert sets.take("web-2", "run-2") == "web is full"
    sets.clock.advance(2 * 60)
    assert sets.take("web-2", "run-2") == ""


def test_they_are_listed_by_age_and_set(sets: Sets) -> None:
    sets.begin_run("run-1")
    sets.take("web-1", most=9)
    sets.clock.advance(1)
    sets.take("db-1", sets=["db"])
    assert sets.names() == ["web/web-1/run-1", "db/db-1/run-1"]
    assert sets.names("db") == ["db/db-1/run-1"]
    assert sets.names("other") == []


def test_no_slots_are_no_question(sets: Sets) -> None:
    assert sets.slots.take([], at_most(0)) == ""


def test_pruning_keeps_unfinished_runs_with_slots_and_deletes_the_slots_of_others(records: SqlRecords) -> None:
    slots = SqlSetSlots(records.database)
    for run_id in ("open", "over", "left"):
        records.save(make.make_run(id=run_id, state=OperationState.IN_PROGRESS))
        assert slots.take([SetSlot("web", f"of-{run_id}", run_id, make.START)], at_most(9)) == ""
    slots.mark_drained("left", "of-left", ["web"])
    for run_id in ("over", "left"):
        records.save(make.make_run(id=run_id, state=OperationState.SUCCEEDED))
    records.save(make.make_run(id="idle", state=OperationState.UNKNOWN))

    assert prune_history(records, make.START + timedelta(days=400)).runs == 3

    assert [(slot.machine, slot.is_left) for slot in slots.find()] == [("of-left", True), ("of-open", False)]
    with records.database.begin_read("look") as connection:
        assert set(connection.exec_driver_sql("SELECT run_id FROM set_slots").scalars().all()) == {"open", "left"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_of_processes_that_race_for_the_last_place_exactly_one_gets_it(kind: str, tmp_path: Path) -> None:
    rounds, racers = 25, 3
    with new_database(kind, tmp_path) as url:
        with open_records(url) as records:
            for number in range(racers):
                records.save(make.make_run(id=f"run-{number}", state=OperationState.IN_PROGRESS))
        together = make_barrier(racers)
        calls = [begin_call(race_for_slots, url, number, rounds, together) for number in range(racers)]
        won = [name for call in calls for name in call.receive()]
        assert [call.end() for call in calls] == [0] * racers
        assert sorted(won) == sorted(f"set-{number}" for number in range(rounds))
        with open_records(url) as records:
            found = SqlSetSlots(records.database).find()
        assert sorted(slot.set_name for slot in found) == sorted(won)
