"""Scheduled events whose changes are told to programs elsewhere: what is announced, who approved, how it ends."""

from collections.abc import Callable, Collection

from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.scheduled_events import EventDocument, EventStatus, ScheduledEvent


class ToldEvents:
    """The scheduled events of a run's process.

    Args:
        inner: stores them.
        tell: gets each event that this process has announced, begun or ended. It raises nothing.
    """

    def __init__(self, inner: ScheduledEvents, tell: Callable[[ScheduledEvent], None]) -> None:
        self._inner, self._tell = inner, tell

    def announce(self, event: ScheduledEvent) -> ScheduledEvent:
        """See ScheduledEvents."""
        announced = self._inner.announce(event)
        if announced.announced_at == event.announced_at:  # else an earlier call did it
            self._tell(announced)
        return announced

    def find(self, run_id: str, machine: str = "") -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents."""
        return self._inner.find(run_id, machine)

    def change(self, event_id: str, status: EventStatus, reason: str = "", by: str = "") -> ScheduledEvent:
        """See ScheduledEvents."""
        event = self._inner.change(event_id, status, reason, by)
        if event.status is status:
            self._tell(event)
        return event

    def approve(self, machine: str, event_ids: Collection[str]) -> tuple[ScheduledEvent, ...]:
        """See ScheduledEvents."""
        return self._inner.approve(machine, event_ids)

    def read_document(self, machine: str, above: int = 0) -> EventDocument:
        """See ScheduledEvents."""
        return self._inner.read_document(machine, above)
