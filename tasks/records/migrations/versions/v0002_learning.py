"""Adds the measures of runs, which predict later runs, and a run's plans and waves."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.String(255)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "measures",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("measure", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "machine", "measure", name="pk_measures"),
    )
    op.create_index("ix_measures_machine_measure_at", "measures", ["machine", "measure", "at"])
    op.create_table(
        "run_plans",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_plans"),
    )
