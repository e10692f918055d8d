"""What maintenance control holds, as people and programs read it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.rows.columns import Column, row
from tasks.domain.states import ImpactType, MaintenanceStatus


@row
class HeldUpdateRow:
    """An update of a held package."""

    name: Annotated[str, Column("Its name.", heading="update", json_name="patchName")]
    version: Annotated[str, Column("The version that would be installed.")]
    classification: Annotated[str, Column("Its kind.", heading="kind")]
    machines: Annotated[int, Column("How many machines of the group lack it.", json_name="machineCount", unit="count")]
    since: Annotated[datetime, Column("When it was first seen pending.", json_name="pendingSinceDateTime")]


@row
class HeldPackageRow:
    """A group of machines and what is held for it, as one package. A group has one row, however much is pending."""

    name: Annotated[
        str,
        Column("The group: a configuration, or its part in one time zone.", heading="group", json_name="resourceId"),
    ]
    configuration: Annotated[str, Column("The configuration.", json_name="maintenanceConfigurationId")]
    status: Annotated[
        MaintenanceStatus | None,
        Column(
            "Pending, InProgress, Completed, RetryNow, RetryLater, NoUpdatesPending, Cancel or Cancelled; null: "
            "not known, as not all machines were read."
        ),
    ]
    number: Annotated[int, Column("The number of the package in its group; 0: it never had one.", heading="package")]
    machines: Annotated[int, Column("The machines of the group.", json_name="machineCount", unit="count")]
    unread: Annotated[
        int,
        Column("Machines that never gave an answer: what they lack is not known.", json_name="unreadMachineCount",
               unit="count"),
    ]  # fmt: skip
    updates: Annotated[int, Column("Updates that are held.", json_name="patchCount", unit="count")]
    urgent: Annotated[
        int,
        Column("Critical and security updates among them.", json_name="criticalAndSecurityPatchCount", unit="count"),
    ]
    impact: Annotated[ImpactType | None, Column("None, Freeze, Restart or Redeploy.", json_name="impactType")]
    first_seen: Annotated[
        datetime | None, Column("The first moment that anything of it was seen.", json_name="firstSeenDateTime")
    ]
    not_before: Annotated[
        datetime | None,
        Column("The end of its last day: until then people may apply it.", heading="last day", json_name="notBefore"),
    ]
    applies_at: Annotated[
        datetime | None,
        Column("When the window opens in which it is applied by itself; null: none is left.", heading="applied",
               json_name="appliesDateTime"),
    ]  # fmt: skip
    is_overdue: Annotated[bool, Column("Whether its last day is over.", heading="overdue")]
    is_removed: Annotated[bool, Column("Whether its configuration holds nothing any more.", heading="removed")]
    looked_at: Annotated[
        datetime | None,
        Column("When maintenance control last looked at the group; null: never, so its windows stay closed."),
    ]
    cause: Annotated[str, Column('Why it was last applied: person, schedule, last window, overdue; "": it was not.')]
    who: Annotated[str, Column('Who has applied it last; "": nobody.', heading="applied by")]
    run_id: Annotated[str | None, Column("The run that applied it last.", heading="run", json_name="maintenanceRunId")]
    reason: Annotated[str, Column('Why it still waits; "": it does not.', is_prose=True)]
    ended_at: Annotated[datetime | None, Column("When the package ended; null: it is held.")]
    maintenance_scope: Annotated[str, Column("Azure's scope of such updates.")] = "InGuestPatch"
