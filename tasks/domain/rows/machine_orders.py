"""A change of a machine that people asked for outside of a run."""

from datetime import datetime
from typing import Annotated

from tasks.domain.rows.columns import Column, row
from tasks.domain.states import ChangeState


@row
class MachineOrderRow:
    """What became of an order on one machine."""

    order_id: Annotated[str, Column("The order: the same for all its machines.", heading="order")]
    act: Annotated[str, Column("What was asked for: hotpatch enroll, updaters off …")]
    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    result: Annotated[
        ChangeState, Column("begun, changed, unchanged, refused or failed. A process that died leaves it begun.")
    ]
    message: Annotated[str, Column("What was done, or why not.", is_prose=True)]
    remedy: Annotated[str, Column("What people can do.", is_prose=True)]
    steps: Annotated[tuple[str, ...], Column("What was done, in words.")]
    by: Annotated[str, Column("Who asked for it.")]
    began_at: Annotated[datetime, Column("When it began.", json_name="startDateTime")]
    ended_at: Annotated[
        datetime | None, Column("When it ended; null: it has not, or nobody knows.", json_name="endDateTime")
    ]
