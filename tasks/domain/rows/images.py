"""An upgrade of a group of images, as command, pages, API and queries show it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.images import RollingUpgradeState
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import UpdateState


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
    components: Annotated[
        tuple[str, ...],
        Column('Components that new disks got again, each with its version and on how many machines: "app 1.2: 4".'),
    ]


@row
class MachineImageUpgradeRow:
    """The upgrade of one machine in one run: its OS disk was ordered to be replaced, and its turn has ended."""

    run_id: Annotated[str, Column("The run.", heading="run", json_name="maintenanceRunId")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    group: Annotated[str, Column("The group's name in images.yaml.", json_name="groupName")]
    version_before: Annotated[str | None, Column("The version of its disk of before; null: not known.")]
    version: Annotated[str, Column("The version that it was to get.")]
    version_after: Annotated[str | None, Column("The version at the end; null: not known.")]
    state: Annotated[UpdateState, Column("Installed, Failed, or Pending: its end was not seen.")]
    is_healthy: Annotated[bool, Column("Whether it has the new disk, and was healthy with it.")]
    put_back: Annotated[
        bool | None,
        Column("Whether its disk of before is in use again; null: it succeeded, or its provider refused the order."),
    ]
    error: Annotated[str | None, Column("Azure's error code of the whole upgrade.", json_name="errorCode")]
    reason: Annotated[str, Column("Why it failed.", is_prose=True)]
    ended_at: Annotated[datetime, Column("When its turn ended.", heading="ended", json_name="endTime")]
