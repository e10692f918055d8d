"""Adds approvals, and the run of each window of a configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.String(255)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "approvals",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("decision", KEY, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("remark", sa.Text, nullable=False),
        sa.Column("decided_at", MOMENT),
        sa.PrimaryKeyConstraint("run_id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_decision", "approvals", ["decision"])
    op.create_table(
        "occurrences",
        sa.Column("configuration", KEY, nullable=False),
        sa.Column("starts_at", MOMENT, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("what", KEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("configuration", "starts_at", name="pk_occurrences"),
    )
    op.create_index("ix_occurrences_run_id", "occurrences", ["run_id"])
