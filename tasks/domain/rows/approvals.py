"""An approval as lists show it."""

from datetime import datetime
from typing import Annotated

from tasks.domain.rows.columns import Column, row


@row
class ApprovalRow:
    """A plan that waits for a decision, or was decided."""

    run_id: Annotated[str, Column("The run.", json_name="maintenanceRunId")]
    decision: Annotated[str, Column("waiting, approved, rejected or expired.", json_name="approval")]
    digest: Annotated[str, Column("The digest of the plan.", json_name="plan")]
    asked_at: Annotated[datetime, Column("When the run asked.")]
    expires_at: Annotated[datetime, Column("From when on the plan can't be approved.")]
    decided_by: Annotated[str | None, Column("Who decided; null: nobody has.")]
    decided_at: Annotated[datetime | None, Column("When it was decided; null: it was not.")]
    remark: Annotated[str, Column("For the report.", is_prose=True)]
