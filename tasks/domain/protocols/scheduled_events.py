"""The protocol of scheduled events: a run announces, looks whether it may begin, and says what became of each."""

from collections.abc import Collection
from typing import Protocol

from tasks.domain.scheduled_events import EventDocument, EventStatus, ScheduledEvent


class ScheduledEvents(Protocol):
    """The scheduled events of all runs. Every method raises RecordsError if the store can't be reached.

    Each change raises the incarnation of the documents of all machines that are told, in the same transaction.
    """

    def announce(self, event: ScheduledEvent) -> ScheduledEvent:
        """Store an event. If its run has one of the same act and resources that is open, return that instead.

        So is one that a person has withdrawn: then the act does not happen in this run.
        """

    def find(self, run_id: str, machine: str = "") -> tuple[ScheduledEvent, ...]:
        """Return the events of a run that interrupt a machine, oldest first, those that are over included.

        ``machine`` "": of all machines.
        """

    def change(self, event_id: str, status: EventStatus, reason: str = "", by: str = "") -> ScheduledEvent:
        """Store a later status of an event, and return it. One that is over, or that far already, is not changed.

        ``by`` is the person who withdraws it; "": a run does.

        Raises:
            RecordsError: there is no such event.
        """

    def approve(self, machine: str, event_ids: Collection[str]) -> tuple[ScheduledEvent, ...]:
        """Record that a machine approves events. Return those of them that it is told: others do not concern it."""

    def read_document(self, machine: str, above: int = 0) -> EventDocument:
        """Return what a machine is told now, with an incarnation above that which it is known to have been told."""
