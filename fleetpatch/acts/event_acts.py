"""What people and programs decide about scheduled events. Forms and the API call the same functions.

Each act is in the audit log before it is done.
"""

from fastapi import Request

from fleetpatch.access.identity import get_identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.policy_checks import require_machines
from fleetpatch.acts.run_acts import get_shared_clock
from fleetpatch.web.audit import record_act
from fleetpatch.web.context import get_context
from flows.event_decisions import approve_event, find_open_event, withdraw_event
from tasks.domain.scheduled_events import ScheduledEvent
from tasks.records.scheduled_events import SqlScheduledEvents


def get_events(request: Request) -> SqlScheduledEvents:
    """Return the scheduled events of all runs."""
    context = get_context(request)
    return SqlScheduledEvents(context.records.database, get_shared_clock(context))


def approve_scheduled_event(request: Request, event_id: str) -> ScheduledEvent:
    """Let an event begin now, for all its machines.

    Raises:
        PolicyRefused: a machine of it is outside of the scope of the person's role.
        RequestError: there is no such event, it has begun, or it is over.
        RecordsError: the records can't be written.
    """
    events = get_events(request)
    with record_act(request, "approve event", event_id):
        event = find_open_event(events, event_id)
        require_machines(request, Role.RUN, event.resources)
        return approve_event(events, event, get_identity(request).name)


def withdraw_scheduled_event(request: Request, event_id: str, reason: str) -> ScheduledEvent:
    """Withdraw an event, so that its run does not interrupt the machine. It raises as ``approve_scheduled_event``."""
    events = get_events(request)
    with record_act(request, "withdraw event", event_id, reason):
        event = find_open_event(events, event_id)
        require_machines(request, Role.RUN, event.resources)
        return withdraw_event(events, event, get_identity(request).name, reason)
