"""A scheduled event as lists show it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.rows.columns import Column, row
from tasks.domain.scheduled_events import EventSource, EventStatus, EventType


@row
class ScheduledEventRow:
    """An interruption that machines were told, who has approved it, and what became of it."""

    event_id: Annotated[str, Column("Its id, as machines see it.", heading="event")]
    run_id: Annotated[str, Column("The run that interrupts.", heading="run", json_name="maintenanceRunId")]
    event_type: Annotated[EventType, Column("Reboot, Freeze or Redeploy.", heading="type")]
    status: Annotated[
        EventStatus,
        Column("Scheduled, Started, Completed, or Canceled: withdrawn.", heading="status", json_name="eventStatus"),
    ]
    resources: Annotated[tuple[str, ...], Column("The machines that are interrupted.", heading="machines")]
    told: Annotated[tuple[str, ...], Column("The machines that are told: also other members of their sets.")]
    not_before: Annotated[datetime, Column("It begins then, or earlier when it is approved.")]
    approved_by: Annotated[tuple[str, ...], Column("The machines and people who have approved it.")]
    approvals_missing: Annotated[
        tuple[str, ...], Column("The machines whose approval it lacks to begin early.", heading="not approved by")
    ]
    announced_at: Annotated[datetime, Column("When it was announced.")]
    started_at: Annotated[datetime | None, Column("When it began; null: it did not.")]
    ended_at: Annotated[datetime | None, Column("When it was over or withdrawn; null: it is open.")]
    source: Annotated[EventSource, Column("Platform: a schedule. User: a person.", json_name="eventSource")]
    duration_seconds: Annotated[
        int | None,
        Column("How long it is expected to take; null: unknown.", json_name="durationInSeconds", unit="seconds"),
    ]
    description: Annotated[str, Column("What machines are told about it.", is_prose=True)]
    reason: Annotated[str, Column('Why it was withdrawn, or "".', is_prose=True)]
