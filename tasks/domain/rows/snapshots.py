"""A snapshot that a run has taken, as the records have it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.provided_machines import Consistency, SnapshotState
from tasks.domain.rows.columns import Column, row


@row
class SnapshotRow:
    """One snapshot that a run has ordered before the first change of a machine."""

    snapshot: Annotated[str, Column("What the provider calls it.", json_name="snapshotId")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    provider: Annotated[str, Column("Who has it, and what that calls the machine: rack-1/web1.")]
    run_id: Annotated[str, Column("The run that has taken it.", heading="run", json_name="assessmentActivityId")]
    ordered_at: Annotated[datetime, Column("When the run ordered it.")]
    expires_at: Annotated[datetime, Column("From when it is deleted.")]
    state: Annotated[
        SnapshotState,
        Column(
            "Taken, Reverted (the machine was put back to it), Deleted, Gone (the provider has it no more), Unknown."
        ),
    ]
    consistency: Annotated[Consistency, Column("What it holds of a machine that ran.")]
    used_bytes: Annotated[
        int | None, Column("How much room it took when it was new; null: not known.", heading="size", unit="bytes")
    ]
    changed_at: Annotated[datetime, Column("When this was last stored.")]
    note: Annotated[str, Column("Why it could not be deleted, or what is wrong with it.", is_prose=True)]
