"""A component on a machine, as command, pages, API and queries show it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.components import AutomaticUpgrade, ComponentStanding
from tasks.domain.rows.columns import Column, row


@row
class ComponentRow:
    """A component on a machine: its version, what it would get, and what became of the last upgrade."""

    machine: Annotated[str, Column("The machine's name in the inventory.", json_name="machineName")]
    component: Annotated[str, Column("The component's name in components.yaml.", json_name="componentName")]
    kind: Annotated[str, Column("How it is installed: the name of its kind in components.yaml.")]
    automatic: Annotated[
        AutomaticUpgrade,
        Column("Whether it is upgraded by itself.", heading="automatic upgrade", json_name="automaticUpgradeStatus"),
    ]
    scopes: Annotated[tuple[str, ...], Column("The scopes in which it is enrolled and that select the machine.")]
    standing: Annotated[
        ComponentStanding,
        Column(
            "How it stands: Current, NonCurrent, Pending, RetryLater, MajorAvailable, Unlisted, NotInstalled, Unknown."
        ),
    ]
    installed: Annotated[str | None, Column("The installed version; null: none, or not known.")]
    available: Annotated[
        str | None, Column("The version that it would get by itself; null: none now.", json_name="availableVersion")
    ]
    newest: Annotated[
        str | None, Column("The newest version of the file, of any major version.", json_name="newestVersion")
    ]
    reason: Annotated[str, Column('Why it gets nothing now; "": it gets something, or is current.', is_prose=True)]
    not_before: Annotated[
        datetime | None, Column("When it is tried again; null: no wait is known.", json_name="notBeforeDateTime")
    ]
    answered_at: Annotated[
        datetime | None, Column("When the machine last told its version; null: never.", heading="asked")
    ]
    last_run_id: Annotated[str | None, Column("The run of its last upgrade.", json_name="maintenanceRunId")]
    last_version: Annotated[str | None, Column("The version of its last upgrade.")]
    last_succeeded: Annotated[bool | None, Column("Whether its last upgrade succeeded; null: there was none.")]
    last_reason: Annotated[str | None, Column("Why its last upgrade failed.", is_prose=True)]
    last_at: Annotated[datetime | None, Column("When its last upgrade ended.", heading="last upgrade")]
