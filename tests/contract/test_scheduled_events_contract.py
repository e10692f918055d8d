"""Scheduled events: the fake, SQLite and PostgreSQL; restarts, clocks that are set back, and restored databases."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RecordsError
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.retention import prune_history
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.scheduled_events import may_begin
from tests.contract.records_subjects import BOTH, new_database, opened
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords
from tests.support.fake_scheduled_events import FakeScheduledEvents

SCHEDULED, STARTED, COMPLETED, CANCELED = EventStatus


def an_event(clock: FakeClock, *resources: str, run_id: str = "run-1", act: str = "reboot/0") -> ScheduledEvent:
    names, now = resources or ("web-1",), clock.now()
    return ScheduledEvent(
        id="",
        run_id=run_id,
        act=act,
        event_type=EventType.REBOOT,
        resources=names,
        audience=names,
        not_before=now + timedelta(minutes=15),
        expires_at=now + timedelta(hours=4),
        announced_at=now,
        description="Updates need a reboot.",
    )


@dataclass
class Told:
    """Scheduled events, the records beside them, and their clock."""

    events: FakeScheduledEvents | SqlScheduledEvents
    records: FakeRecords | SqlRecords
    clock: FakeClock

    def begin_run(self, run_id: str = "run-1", state: OperationState = OperationState.IN_PROGRESS) -> None:
        self.records.save(make.make_run(id=run_id, state=state))

    def announce(self, *resources: str, audience: tuple[str, ...] = (), act: str = "reboot/0") -> ScheduledEvent:
        event = an_event(self.clock, *resources, act=act)
        return self.events.announce(replace(event, audience=(*event.audience, *audience)))

    def incarnation(self, machine: str = "web-1") -> int:
        return self.events.read_document(machine).incarnation

    def ids(self, machine: str = "web-1") -> list[str]:
        return [event.id for event in self.events.read_document(machine).events]


@pytest.fixture(params=["fake", *BOTH])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Told]:
    clock = FakeClock()
    if request.param == "fake":
        kept = FakeRecords()
        made = Told(FakeScheduledEvents(kept, clock), kept, clock)
        made.begin_run()
        yield made
        return
    with opened(request.param, tmp_path) as records:
        made = Told(SqlScheduledEvents(records.database, clock), records, clock)
        made.begin_run()
        yield made


def test_an_event_is_told_until_it_is_over(told: Told) -> None:
    seen = [told.incarnation()]
    event = told.announce()
    seen.append(told.incarnation())
    assert told.ids() == [event.id]
    assert told.events.change(event.id, STARTED).started_at == told.clock.now()
    seen.append(told.incarnation())
    told.events.change(event.id, COMPLETED)
    seen.append(told.incarnation())
    assert told.ids() == []
    assert seen == [seen[0], seen[0] + 1, seen[0] + 2, seen[0] + 3]


def test_a_withdrawn_event_vanishes_and_the_same_act_is_announced_as_another(told: Told) -> None:
    first = told.announce()
    withdrawn = told.events.change(first.id, CANCELED, "the run was stopped")
    assert (withdrawn.status, withdrawn.reason) == (CANCELED, "the run was stopped")
    assert told.ids() == []
    told.clock.advance(1)
    second = told.announce()
    assert second.id != first.id
    assert told.ids() == [second.id]
    assert [event.status for event in told.events.find("run-1")] == [CANCELED, SCHEDULED]


def test_what_a_person_has_withdrawn_is_not_announced_again_in_its_run(told: Told) -> None:
    event = told.announce()
    withdrawn = told.events.change(event.id, CANCELED, "anna: not today", "anna")

    assert told.announce() == withdrawn
    assert told.ids() == []
    assert len(told.announce("web-2").resources) == 1


def test_asked_twice_is_announced_once(told: Told) -> None:
    event = told.announce("web-1", "web-2")
    before = told.incarnation()
    told.clock.advance(60)

    assert told.announce("web-2", "web-1").id == event.id
    assert told.announce("web-1", "web-2") == event
    assert told.incarnation() == before


def test_members_are_told_and_others_are_not(told: Told) -> None:
    event = told.announce("web-1", audience=("web-2",))

    assert told.ids("web-2") == [event.id]
    assert told.ids("web-3") == []
    assert event.resources == ("web-1",)


def test_a_machine_approves_what_it_is_told_and_nothing_else(told: Told) -> None:
    event = told.announce("web-1", audience=("web-2",))

    assert told.events.approve("web-3", [event.id]) == ()
    assert not may_begin(told.events.find("run-1")[0], told.clock.now())
    assert [each.id for each in told.events.approve("web-2", [event.id])] == [event.id]
    assert not may_begin(told.events.find("run-1")[0], told.clock.now())
    (approved,) = told.events.approve("web-1", [event.id, "11111111-2222-3333-4444-555555555555"])
    assert may_begin(approved, told.clock.now())
    assert {approval.machine for approval in approved.approvals} == {"web-1", "web-2"}


def test_an_approval_again_changes_nothing(told: Told) -> None:
    event = told.announce()
    (first,) = told.events.approve("web-1", [event.id])
    before = told.incarnation()
    told.clock.advance(60)

    assert told.events.approve("web-1", [event.id]) == (first,)
    assert told.incarnation() == before


def test_a_status_never_goes_back(told: Told) -> None:
    event = told.announce()
    told.events.change(event.id, STARTED)
    told.events.change(event.id, CANCELED, "too late")
    assert told.events.find("run-1")[0].status is STARTED
    told.events.change(event.id, COMPLETED)
    before = told.incarnation()
    for status in EventStatus:
        assert told.events.change(event.id, status).status is COMPLETED
    assert told.incarnation() == before


def test_an_unknown_event_is_an_error(told: Told) -> None:
    with pytest.raises(RecordsError):
        told.events.change("11111111-2222-3333-4444-555555555555", STARTED)


def test_what_a_run_left_is_not_told_when_it_is_over(told: Told) -> None:
    told.announce()
    before = told.incarnation()
    told.begin_run(state=OperationState.FAILED)
    assert told.ids() == []
    assert told.incarnation() == before + 1


def test_an_event_expires(told: Told) -> None:
    told.announce()
    before = told.incarnation()
    told.clock.advance(4 * 3600)
    assert told.ids() == []
    assert told.incarnation() == before + 1


def test_reading_changes_nothing(told: Told) -> None:
    told.announce()
    assert {told.incarnation() for _ in range(5)} == {told.incarnation()}


def test_a_clock_that_is_set_back_takes_nothing_back(told: Told) -> None:
    told.announce()
    seen = [told.incarnation()]
    told.clock.advance(-86400)
    seen.append(told.incarnation())
    event = told.announce(act="restart/0")
    seen.append(told.incarnation())
    told.events.change(event.id, CANCELED)
    seen.append(told.incarnation())
    assert seen == [seen[0], seen[0], seen[0] + 1, seen[0] + 2]


def test_an_incarnation_that_a_machine_was_told_by_a_file_is_passed(told: Told) -> None:
    told.announce()
    assert told.events.read_document("web-1", 41).incarnation == 42
    assert told.incarnation() == 42
    assert told.incarnation("new-1") > 42


@given(wishes=st.lists(st.tuples(st.sampled_from(["web-1", "web-2"]), st.integers(0, 5)), max_size=12))
def test_incarnations_rise_with_each_change_and_only_then(wishes: list[tuple[str, int]]) -> None:
    clock, kept = FakeClock(), FakeRecords()
    told = Told(FakeScheduledEvents(kept, clock), kept, clock)
    told.begin_run()
    shown = {name: told.events.read_document(name) for name in ("web-1", "web-2")}
    for machine, act in wishes:
        event = told.announce(machine, act=f"reboot/{act % 2}")
        if act > 1:
            told.events.change(event.id, [STARTED, COMPLETED, CANCELED, STARTED][act - 2])
        for name, before in shown.items():
            now = told.events.read_document(name)
            has_changed = [(e.id, e.status) for e in now.events] != [(e.id, e.status) for e in before.events]
            assert now.incarnation > before.incarnation if has_changed else now.incarnation >= before.incarnation
            shown[name] = now


class TestDatabase:
    @pytest.fixture(params=BOTH)
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
        with new_database(request.param, tmp_path) as made:
            yield made

    def test_incarnations_survive_a_restart(self, url: str) -> None:
        clock = FakeClock()
        with open_records(url) as records:
            records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
            SqlScheduledEvents(records.database, clock).announce(an_event(clock))
            before = SqlScheduledEvents(records.database, clock).read_document("web-1")
        with open_records(url) as records:
            assert SqlScheduledEvents(records.database, clock).read_document("web-1") == before

    def test_all_documents_together_are_those_of_each_machine(self, url: str) -> None:
        with open_records(url) as records:
            told = Told(SqlScheduledEvents(records.database, clock := FakeClock()), records, clock)
            assert isinstance(told.events, SqlScheduledEvents)
            told.begin_run()
            told.announce("web-1", audience=("web-2",))
            told.announce("web-1", act="restart/0")
            told.announce("db-1")
            of_each = {name: told.events.read_document(name) for name in ("web-1", "web-2", "db-1", "lone")}

            assert told.events.read_documents() == of_each
            assert [len(of_each[name].events) for name in ("web-1", "web-2", "lone")] == [2, 1, 0]

            clock.advance(5 * 3600)  # they have expired, and no document says so yet
            assert list(told.events.read_documents()) == ["lone"]
            assert told.events.read_document("web-1").events == ()
            assert set(told.events.read_documents()) == {"lone", "web-1"}

    def test_forgotten_events_end(self, url: str) -> None:
        clock = FakeClock()
        with open_records(url) as records:
            events = SqlScheduledEvents(records.database, clock)
            for run_id in ("run-1", "run-2", "run-3"):
                records.save(make.make_run(id=run_id, state=OperationState.IN_PROGRESS))
                event = events.announce(an_event(clock, f"of-{run_id}", run_id=run_id))
            events.change(event.id, STARTED)
            assert events.end_forgotten() == ()
            for run_id in ("run-1", "run-3"):
                records.save(make.make_run(id=run_id, state=OperationState.FAILED))
            assert {event.run_id for event in events.end_forgotten()} == {"run-1", "run-3"}
            assert [events.find(f"run-{number}")[0].status for number in (1, 2, 3)] == [CANCELED, SCHEDULED, COMPLETED]
            assert [event.run_id for event in events.find_newest(10, only_open=True)] == ["run-2"]
            assert len(events.find_newest(10, only_open=False)) == 3

    def test_a_person_approves_for_all(self, url: str) -> None:
        clock = FakeClock()
        with open_records(url) as records:
            records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
            events = SqlScheduledEvents(records.database, clock)
            event = events.announce(an_event(clock, "web-1", "web-2"))
            assert may_begin(events.approve_for_all(event.id, "anna"), clock.now())
            assert events.approve_for_all(event.id, "bert").approvals[0].by == "anna"
            with pytest.raises(RecordsError):
                events.approve_for_all("no", "anna")

    def test_an_old_run_takes_its_events_with_it_and_no_incarnation(self, url: str) -> None:
        clock = FakeClock()
        with open_records(url) as records:
            events = SqlScheduledEvents(records.database, clock)
            records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
            events.announce(an_event(clock))
            before = events.read_document("web-1").incarnation
            records.save(make.make_run(id="run-1", state=OperationState.SUCCEEDED))
            prune_history(records, clock.now() + timedelta(days=400))
            assert events.find("run-1") == ()
            assert events.read_document("web-1").incarnation == before + 1

    def test_two_processes_announce_at_once_and_both_have_the_same_event(self, url: str) -> None:
        clock = FakeClock()
        with open_records(url) as records, open_records(url) as others:
            records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
            first = SqlScheduledEvents(records.database, clock).announce(an_event(clock))
            assert SqlScheduledEvents(others.database, clock).announce(an_event(clock)) == first


@pytest.mark.parametrize("machines", [["web-1"], ["new-1"], ["web-1", "new-1"]])
def test_an_older_database_that_was_restored_goes_on_above_what_machines_were_told(
    tmp_path: Path, machines: list[str]
) -> None:
    clock = FakeClock()
    with new_database("sqlite", tmp_path) as url:
        file = tmp_path / "records.db"
        with open_records(url) as records:
            records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
            events = SqlScheduledEvents(records.database, clock)
            events.announce(an_event(clock))
            shown = {name: events.read_document(name).incarnation for name in ("web-1", "new-1")}
        shutil.copy(file, tmp_path / "backup")
        with open_records(url) as records:
            events = SqlScheduledEvents(records.database, clock)
            for number in range(5):
                for machine in machines:
                    event = events.announce(an_event(clock, machine, act=f"restart/{number}"))
                    events.change(event.id, CANCELED)
                    shown[machine] = events.read_document(machine).incarnation
            known = events.read_count()
        for rest in tmp_path.glob("records.db*"):
            rest.unlink()
        shutil.copy(tmp_path / "backup", file)
        with open_records(url) as records:
            events = SqlScheduledEvents(records.database, clock)
            assert events.resume_count(known)
            assert not events.resume_count(known)
            assert events.read_count() >= known
            for name, before in shown.items():
                assert events.read_document(name).incarnation > before
