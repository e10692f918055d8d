"""Adds the seals of records and the signatures of access tokens.

Rows that are there get none: an unfinished run of before can't be resumed, and access tokens are to be made again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    for table in (
        "runs",
        "run_plans",
        "machine_plans",
        "assessments",
        "journal",
        "rollouts",
        "approvals",
        "requested_runs",
    ):
        op.add_column(table, sa.Column("seal", sa.String(255)))
    op.add_column("access_tokens", sa.Column("signature", sa.Text))
