"""Adds columns for lists of updates, a table of plans by machine, and the retention.

Existing rows are not changed: their documents contain everything. Existing history is kept forever unless its owner
sets a retention.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.String(255)


def upgrade() -> None:
    """Add the columns, which are empty in existing rows, and the tables."""
    op.add_column("assessments", sa.Column("updates", sa.LargeBinary))
    op.create_index("ix_assessments_machine_known_at", "assessments", ["machine", "known", "at"])
    op.add_column("outcomes", sa.Column("counts", sa.Text))
    op.add_column("outcomes", sa.Column("updates", sa.LargeBinary))
    op.create_table(
        "machine_plans",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updates", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "machine", name="pk_machine_plans"),
    )
    op.create_table(
        "retention",
        sa.Column("what", KEY, nullable=False),
        sa.Column("days", sa.Integer),
        sa.Column("applied_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("what", name="pk_retention"),
    )
