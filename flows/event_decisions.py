"""What people decide about scheduled events: that one may begin now, or that it does not happen."""

from tasks.domain.errors import RequestError
from tasks.domain.scheduled_events import EventStatus, ScheduledEvent
from tasks.records.scheduled_events import SqlScheduledEvents

MAX_EVENTS = 1000


def find_open_event(events: SqlScheduledEvents, id_or_prefix: str) -> ScheduledEvent:
    """Return the event with this id, or with an id that begins so.

    Raises:
        RequestError: no event that is open has such an id, or several have.
        RecordsError: the records can't be read.
    """
    wanted = id_or_prefix.strip().lower()
    fitting = [event for event in events.find_newest(MAX_EVENTS, only_open=True) if event.id.startswith(wanted)]
    if wanted and len(fitting) == 1:
        return fitting[0]
    message = f"{len(fitting)} open events begin with" if fitting and wanted else "there is no open event"
    raise RequestError(f"{message} {id_or_prefix!r}", hint="Give more of its id: fleetpatch events list shows them.")


def approve_event(events: SqlScheduledEvents, event: ScheduledEvent, who: str) -> ScheduledEvent:
    """Let an event begin now, for all its machines. The first who approves it counts.

    Raises:
        RequestError: it has begun, or is over.
        RecordsError: it can't be stored.
    """
    approved = events.approve_for_all(event.id, who)
    if not any(approval.by for approval in approved.approvals):
        raise RequestError(f"event {event.id} is {approved.status}: it can't be approved any more")
    return approved


def withdraw_event(events: SqlScheduledEvents, event: ScheduledEvent, who: str, reason: str) -> ScheduledEvent:
    """Withdraw an event, so that its run does not interrupt the machine. What the run has installed stays.

    Raises:
        RequestError: it has begun, or is over.
        RecordsError: it can't be stored.
    """
    text = f"{who}: {reason.strip()}" if reason.strip() else f"{who} has withdrawn it"
    withdrawn = events.change(event.id, EventStatus.CANCELED, text, who)
    if withdrawn.status is not EventStatus.CANCELED or withdrawn.reason != text:
        raise RequestError(f"event {event.id} is {withdrawn.status}: it can't be withdrawn any more")
    return withdrawn
