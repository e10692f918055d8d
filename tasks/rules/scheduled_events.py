"""Scheduled events: what a machine's document says in each version of Azure's API, and when an event may begin. Pure.

Azure's rules, and where fleetpatch decides (facts of Azure's pages on scheduled events):

- An event is Scheduled, then Started, then it is gone. One that is withdrawn is gone without Started.
- It begins at NotBefore, or earlier when it is approved. In Azure one approval counts for all resources, and every
  member of a set may give it: ``ApprovalRule.ANY``. With ``ApprovalRule.ALL`` each resource approves for itself.
- All members of a set are told, and ``Resources`` names the machine that is interrupted: a program looks for its own.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from inventory.data_class import dataclass
from tasks.domain.rows.scheduled_events import ScheduledEventRow
from tasks.domain.scheduled_events import ApprovalRule, EventDocument, EventStatus, EventType, ScheduledEvent

_NAMESPACE: Final = uuid.UUID("6d1c6f8e-3b0f-5b55-9f0e-3a5b1c7a40e1")  # an arbitrary UUID; it must never change
_FIRST_TYPES: Final = frozenset({EventType.FREEZE, EventType.REBOOT, EventType.REDEPLOY})
MAX_START_REQUESTS: Final = 100
_MOST_INCARNATIONS: Final = 10**9
"""No document comes so far by itself. A machine that claims more would take the counter of all machines along."""


@dataclass(frozen=True, slots=True)
class ApiVersion:
    """A version of the document."""

    # The types of events that it has. Others are left out: a program of then does not know them.
    types: frozenset[EventType]
    fields: frozenset[str] = frozenset()  # the fields that it has besides the first ones
    prefix: str = ""  # stands before the name of each resource


_PREEMPT = _FIRST_TYPES | {EventType.PREEMPT}
_ALL_TYPES = frozenset(EventType)
API_VERSIONS: Final = {
    "2017-03-01": ApiVersion(_FIRST_TYPES, prefix="_"),
    "2017-08-01": ApiVersion(_FIRST_TYPES),
    "2017-11-01": ApiVersion(_PREEMPT),
    "2019-01-01": ApiVersion(_ALL_TYPES),
    "2019-04-01": ApiVersion(_ALL_TYPES, frozenset({"Description"})),
    "2019-08-01": ApiVersion(_ALL_TYPES, frozenset({"Description", "EventSource"})),
    "2020-07-01": ApiVersion(_ALL_TYPES, frozenset({"Description", "EventSource", "DurationInSeconds"})),
}
"""Azure's versions, oldest first."""
NEWEST_VERSION: Final = list(API_VERSIONS)[-1]


@dataclass(frozen=True, slots=True)
class EventNotice:
    """How a run announces its interruptions."""

    notice_seconds: float = 900.0  # the time between the announcement and the interruption
    rule: ApprovalRule = ApprovalRule.ALL  # whose approval lets an event begin earlier


def build_event_id(run_id: str, resources: Sequence[str], act: str, number: int) -> str:
    """Return the id of an event: always the same for the same act of a run.

    Args:
        run_id: the run.
        resources: the machines that are interrupted.
        act: the act in the run.
        number: how many events of this act the run has had, all withdrawn.
    """
    return str(uuid.uuid5(_NAMESPACE, json.dumps([run_id, sorted(resources), act, number])))


def build_document(document: EventDocument, version: str) -> dict[str, Any]:
    """Return a machine's document as JSON data.

    Args:
        document: what the machine is told.
        version: one of API_VERSIONS.
    """
    shape = API_VERSIONS[version]
    shown = [_render_event(event, shape) for event in document.events if event.event_type in shape.types]
    return {"DocumentIncarnation": document.incarnation, "Events": shown}


def _render_event(event: ScheduledEvent, shape: ApiVersion) -> dict[str, Any]:
    later: dict[str, Any] = {
        "Description": event.description,
        "EventSource": event.source.value,
        "DurationInSeconds": event.duration_seconds,
    }
    not_before = format_datetime(event.not_before.astimezone(UTC), usegmt=True)
    return {
        "EventId": event.id,
        "EventStatus": event.status.value,
        "EventType": event.event_type.value,
        "ResourceType": "VirtualMachine",
        "Resources": [f"{shape.prefix}{name}" for name in event.resources],
        "NotBefore": not_before if event.status is EventStatus.SCHEDULED else "",
        **{name: value for name, value in later.items() if name in shape.fields},
    }


def compute_events_digest(events: Sequence[ScheduledEvent]) -> str:
    """Return a digest of what the newest version of a document shows. Two documents with the same one say the same."""
    shown = [_render_event(event, API_VERSIONS[NEWEST_VERSION]) for event in events]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def describe_approvals(event: ScheduledEvent) -> str:
    """Return who has approved an event, and whose approval it began without."""
    missing, approvals = list_missing_approvals(event), event.approvals
    given = ", ".join(dict.fromkeys(approval.by or approval.machine for approval in approvals))
    if not missing:
        return f"its event was approved by {given}"
    time_is_up = f"its event's time had come without the approval of {', '.join(missing)}"
    return f"{time_is_up} ({given} approved)" if given else time_is_up


def build_event_row(event: ScheduledEvent) -> ScheduledEventRow:
    """Return an event as lists show it."""
    return ScheduledEventRow(
        event_id=event.id,
        run_id=event.run_id,
        event_type=event.event_type,
        status=event.status,
        resources=event.resources,
        told=event.audience,
        not_before=event.not_before,
        approved_by=tuple(dict.fromkeys(approval.by or approval.machine for approval in event.approvals)),
        approvals_missing=list_missing_approvals(event),
        announced_at=event.announced_at,
        started_at=event.started_at,
        ended_at=event.ended_at,
        source=event.source,
        duration_seconds=None if event.duration_seconds < 0 else event.duration_seconds,
        description=event.description,
        reason=event.reason,
    )


def is_told(event: ScheduledEvent, now: datetime) -> bool:
    """Return whether documents have an event."""
    return event.is_open and now < event.expires_at


def list_missing_approvals(event: ScheduledEvent) -> tuple[str, ...]:
    """Return the resources whose approval an event lacks to begin before its time. A person approves for all."""
    approved = {approval.machine for approval in event.approvals}
    if any(approval.by for approval in event.approvals) or (event.rule is ApprovalRule.ANY and approved):
        return ()
    return tuple(name for name in event.resources if name not in approved)


def may_begin(event: ScheduledEvent, now: datetime) -> bool:
    """Return whether an event may begin: it has begun already, it is approved, or its time has come."""
    if not event.is_open:
        return False
    return event.status is EventStatus.STARTED or now >= event.not_before or not list_missing_approvals(event)


def compute_not_before(now: datetime, notice_seconds: float, earliest: datetime | None = None) -> datetime:
    """Return the time before which an event does not begin, in whole seconds: documents have no fractions."""
    moment = now + timedelta(seconds=notice_seconds)
    moment = moment if earliest is None else max(moment, earliest)
    return datetime.fromtimestamp(math.ceil(moment.timestamp()), UTC)


def compute_notice_left(event: ScheduledEvent | None, now: datetime, notice_seconds: float) -> float:
    """Return the seconds that an interruption has to wait at most. ``event`` None: it is not announced yet."""
    if event is None:
        return notice_seconds
    return 0.0 if may_begin(event, now) else max(0.0, (event.not_before - now).total_seconds())


def may_change(event: ScheduledEvent, status: EventStatus) -> bool:
    """Return whether an event may have this status next. It never goes back, and one that is over stays over.

    One that has begun is not withdrawn: what it tells has happened.
    """
    if not event.is_open or status is event.status:
        return False
    if event.status is EventStatus.STARTED:
        return status is EventStatus.COMPLETED
    return status is not EventStatus.COMPLETED


def parse_incarnation(text: str) -> int:
    """Return the incarnation of a document, as anything may have written it; 0 for a text that is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    incarnation = data.get("DocumentIncarnation") if isinstance(data, dict) else None
    is_usable = isinstance(incarnation, int) and not isinstance(incarnation, bool) and incarnation <= _MOST_INCARNATIONS
    return max(0, incarnation) if is_usable and isinstance(incarnation, int) else 0


class MalformedStartRequest(ValueError):
    """An approval that can't be understood. Its text says why."""


def parse_start_requests(body: bytes) -> tuple[str, ...]:
    """Return the ids of the events that ``{"StartRequests": [{"EventId": …}]}`` approves, each once.

    Raises:
        MalformedStartRequest: it is not that.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedStartRequest("the body is not JSON") from error
    requests = data.get("StartRequests") if isinstance(data, dict) else None
    if not isinstance(requests, list) or not requests:
        raise MalformedStartRequest("StartRequests must be a list that is not empty")
    if len(requests) > MAX_START_REQUESTS:
        raise MalformedStartRequest(f"StartRequests has more than {MAX_START_REQUESTS} entries")
    event_ids = [entry.get("EventId") if isinstance(entry, dict) else None for entry in requests]
    return tuple(dict.fromkeys(map(_parse_event_id, event_ids)))


def _parse_event_id(value: object) -> str:
    try:
        return str(uuid.UUID(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise MalformedStartRequest("each entry of StartRequests needs the EventId of an event") from error
