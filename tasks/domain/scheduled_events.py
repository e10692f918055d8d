"""Scheduled events: what machines and their programs are told before a run interrupts them. The words are Azure's."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass


class EventType(StrEnum):
    """What happens to a machine."""

    FREEZE = "Freeze"  # it pauses for a short time: services are restarted
    REBOOT = "Reboot"
    REDEPLOY = "Redeploy"
    PREEMPT = "Preempt"
    TERMINATE = "Terminate"


class EventStatus(StrEnum):
    """How far an event is. Documents show only the first two: an event that is over is not in them."""

    SCHEDULED = "Scheduled"
    STARTED = "Started"  # the interruption begins now, or has begun
    COMPLETED = "Completed"
    CANCELED = "Canceled"  # withdrawn, or nobody carried it out


OPEN_EVENT_STATUSES: Final = frozenset({EventStatus.SCHEDULED, EventStatus.STARTED})


class EventSource(StrEnum):
    """Who causes an event."""

    PLATFORM = "Platform"  # a schedule
    USER = "User"  # a person


class ApprovalRule(StrEnum):
    """Whose approval lets an event begin before its time."""

    ALL = "all"  # each resource approves for itself
    ANY = "any"  # the first machine that approves does so for all resources, as in Azure


@dataclass(frozen=True, slots=True)
class EventApproval:
    """An approval."""

    machine: str  # the machine whose program approved; "": a person approved for all resources
    by: str  # the person; "": a program
    at: datetime


@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """One interruption of a machine by a run."""

    id: str  # a UUID. The same act of the same run always has the same one.
    run_id: str
    act: str  # the act in its run, such as "reboot/0": the number of the round follows
    event_type: EventType
    resources: tuple[str, ...]  # the machines that are interrupted
    audience: tuple[str, ...]  # the machines that are told: the resources, and the other members of their machine sets
    not_before: datetime  # it does not begin earlier, unless it is approved
    expires_at: datetime  # from then on it is not told any more, whatever became of it
    announced_at: datetime
    description: str
    source: EventSource = EventSource.PLATFORM
    rule: ApprovalRule = ApprovalRule.ALL
    duration_seconds: int = -1  # how long the interruption is expected to take; -1: unknown
    status: EventStatus = EventStatus.SCHEDULED
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""  # why it is over; "" while it is open, and for one that was carried out
    withdrawn_by: str = ""  # the person who has withdrawn it; "": nobody. Its run does not announce the act again.
    approvals: tuple[EventApproval, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it is neither carried out nor withdrawn."""
        return self.status in OPEN_EVENT_STATUSES


@dataclass(frozen=True, slots=True)
class EventDocument:
    """The events that one machine is told."""

    machine: str
    incarnation: int  # rises with every change of the events, and never goes back
    events: tuple[ScheduledEvent, ...]
