"""Parts for runs that announce what they interrupt: machines, their programs, and a clock that wakes them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tasks.domain.model import Outcome
from tasks.domain.scheduled_events import ScheduledEvent
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.sim_machine import SimMachine

ANNOUNCE: dict[str, Any] = {"announce": {"enabled": True}}
NOTICE = timedelta(minutes=15)


class WakingClock(FakeClock):
    """A clock on which programs of machines do something at a moment, while the run waits."""

    def __init__(self) -> None:
        super().__init__()
        self._plans: list[tuple[datetime, Callable[[], None]]] = []

    def call_at(self, when: datetime, what: Callable[[], None]) -> None:
        self._plans.append((when, what))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        due = [plan for plan in self._plans if plan[0] <= self.now()]
        self._plans = [plan for plan in self._plans if plan not in due]
        for _, what in due:
            what()


def asks(fleet: SimFleet, name: str = "web", seconds: float = 20, **settings: Any) -> SimMachine:
    """Add a machine whose plan expects a reboot."""
    packages = [FakePackage("a", seconds=seconds, asks_reboot=True, requires_reboot=True)]
    return fleet.add(name, packages, **settings)


def after(fleet: SimFleet, seconds: float, what: Callable[[], Any]) -> None:
    """So many seconds from now, do something."""
    assert isinstance(fleet.clock, WakingClock)
    fleet.clock.call_at(fleet.clock.now() + timedelta(seconds=seconds), what)


def approve(fleet: SimFleet, machine: str) -> None:
    """Let a machine's program approve all that it is told."""
    fleet.events.approve(machine, [event.id for event in fleet.events.read_document(machine).events])


def only_event(fleet: SimFleet) -> ScheduledEvent:
    (event,) = fleet.events.events.values()
    return event


def reason_of(outcome: Outcome) -> str:
    assert outcome.reboot_result is not None
    return outcome.reboot_result.reason
