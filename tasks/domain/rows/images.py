"""An upgrade of a group of images, as command, pages, API and queries show it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.images import RollingUpgradeState
from tasks.domain.rows.columns import Column, row


@row
class ImageUpgradeRow:
    """A rolling upgrade of the OS disks of a group: one run."""

    run_id: Annotated[str, Column("The run.", heading="run", json_name="maintenanceRunId")]
    group: Annotated[str, Column("The group's name in images.yaml.", json_name="groupName")]
    version: Annotated[str | None, Column("The version that machines got; null: none has got one.")]
    state: Annotated[RollingUpgradeState, Column("RollingForward, Cancelled, Completed or Faulted.", json_name="code")]
    error: Annotated[str | None, Column("Azure's error code of an upgrade that is Faulted.", json_name="errorCode")]
    message: Annotated[str, Column("Why it ended before all machines had their turn.", is_prose=True)]
    started_by: Annotated[str, Column("User, or Platform: it came by itself.", json_name="startedBy")]
    starter: Annotated[str, Column("Who started it.")]
    started_at: Annotated[datetime, Column("When it began.", heading="started", json_name="startTime")]
    ended_at: Annotated[
        datetime | None, Column("When it ended; null: it has not.", heading="ended", json_name="endTime")
    ]
    successful: Annotated[int, Column("Machines with the new disk.", unit="count", json_name="successfulInstanceCount")]
    failed: Annotated[
        int,
        Column(
            "Machines that failed: not healthy with it, or not replaced.", unit="count", json_name="failedInstanceCount"
        ),
    ]
    in_progress: Annotated[
        int, Column("Machines whose disk is being replaced.", unit="count", json_name="inProgressInstanceCount")
    ]
    pending: Annotated[int, Column("Machines that have had no turn.", unit="count", json_name="pendingInstanceCount")]
    rolled_back: Annotated[
        int,
        Column(
            "Failed machines with their disk before.", unit="count", json_name="successfullyRolledbackInstanceCount"
        ),
    ]
    not_rolled_back: Annotated[
        int, Column("Failed machines with the new disk.", unit="count", json_name="failedRolledbackInstanceCount")
    ]
