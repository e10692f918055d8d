"""A window of a configuration as lists show it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from tasks.domain.rows.columns import Column, row


class WindowKind(StrEnum):
    """What a window is now. The values are the words of the calendar."""

    COMING = "coming"
    OPEN = "open now"
    RUN = "run"
    MISSED = "missed"
    FROZEN = "frozen"
    CANCELLED = "cancelled"
    HELD = "held"
    UNKNOWN = "no run recorded"


@row
class WindowRow:
    """A window in the calendar, and what became of it."""

    configuration: Annotated[str, Column("The configuration whose window it is.")]
    start: Annotated[datetime, Column("When it opens.", json_name="startDateTime")]
    end: Annotated[
        datetime | None, Column("When it closes; null: its length is not known any more.", json_name="endDateTime")
    ]
    zone: Annotated[
        str, Column('The zone of its configuration; "": that has no such window any more.', json_name="timeZone")
    ]
    kind: Annotated[
        WindowKind,
        Column("coming, open now, run, missed, frozen, cancelled, held, or no run recorded.", json_name="status"),
    ]
    machines: Annotated[int, Column("How many machines it has.", unit="count")]
    reason: Annotated[str, Column('Why it has no run, or "".', is_prose=True)] = ""
    note: Annotated[str, Column('The effect of a clock change or of held updates, or "".', is_prose=True)] = ""
    run_id: Annotated[str | None, Column("Its run; null: none has it.", json_name="maintenanceRunId")] = None
    run_state: Annotated[str | None, Column("The state of its run.", json_name="runStatus")] = None
    recorded_at: Annotated[datetime | None, Column("When it was recorded; null: it was not.")] = None
    overlaps: Annotated[
        tuple[str, ...], Column("The configurations with an open window at the same time on the same machines.")
    ] = ()

    @property
    def is_void(self) -> bool:
        """Whether it does not open: a freeze or a person has cancelled it, or what it would install is held."""
        return self.kind in {WindowKind.FROZEN, WindowKind.CANCELLED, WindowKind.HELD}


@row
class RecordedWindowRow:
    """The one run of a window, or why it has none, as the table ``windows`` of queries has it."""

    configuration: Annotated[str, Column("The configuration whose window it is.")]
    starts_at: Annotated[datetime, Column("When it opens.", json_name="startDateTime")]
    run_id: Annotated[str, Column("The run that has it, or that was refused.", json_name="maintenanceRunId")]
    what: Annotated[str, Column("run, missed, frozen, cancelled or held.", json_name="status")]
    reason: Annotated[str, Column("Why no run has it; for a run: the id of its flow run.", is_prose=True)]
    recorded_at: Annotated[datetime, Column("When it was recorded.")]
