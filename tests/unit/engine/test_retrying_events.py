"""Scheduled events of a run while the database is away, and when another process has the run."""

from datetime import timedelta

import pytest

from flows.engine.retrying_records import RetryingEvents
from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.steps.context.run_control import LoggingListener
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.fake_records import FakeRecords
from tests.support.fake_scheduled_events import FakeScheduledEvents


class Stage:
    """Events, and the wrapper that a run uses."""

    def __init__(self) -> None:
        self.clock, self.holds = FakeClock(), True
        records = FakeRecords()
        records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
        self.events = FakeScheduledEvents(records, self.clock)
        until = self.clock.now() + timedelta(minutes=10)
        self.own = RetryingEvents(self.events, self.clock, until, LoggingListener(), lambda: self.holds)

    def announce(self) -> ScheduledEvent:
        now = self.clock.now()
        return self.own.announce(
            ScheduledEvent(
                id="",
                run_id="run-1",
                act="reboot/0",
                event_type=EventType.REBOOT,
                resources=("web",),
                audience=("web",),
                not_before=now,
                expires_at=now + timedelta(hours=4),
                announced_at=now,
                description="",
            )
        )


def test_a_database_that_is_away_for_a_while_is_waited_for() -> None:
    stage = Stage()
    stage.events.away = 5
    event = stage.announce()
    stage.events.away = 5
    stage.own.change(event.id, EventStatus.STARTED)
    stage.events.away = 5

    assert stage.own.find("run-1", "web")[0].status is EventStatus.STARTED
    assert len(stage.events.events) == 1


def test_one_that_stays_away_is_an_error_after_the_window() -> None:
    stage = Stage()
    stage.events.away = float("inf")
    began = stage.clock.now()

    with pytest.raises(RecordsUnavailable):
        stage.announce()
    assert stage.clock.now() - began >= timedelta(minutes=10)


def test_a_process_without_the_lease_changes_nothing_and_may_look() -> None:
    stage = Stage()
    event = stage.announce()
    stage.holds = False

    for write in (
        stage.announce,
        lambda: stage.own.change(event.id, EventStatus.STARTED),
        lambda: stage.own.approve("web", [event.id]),
    ):
        with pytest.raises(RecordsError, match="another process"):
            write()
    assert stage.own.find("run-1") == (event,)
    assert stage.own.read_document("web").events == (event,)
