"""Adds run leases, stop requests, and a digest of journal entries: an entry that is sent twice is stored once."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.String(255)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables and the journal's column. Existing entries have no digest: they are never sent again."""
    op.create_table(
        "leases",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("holder_id", KEY, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("given_back", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_leases"),
    )
    op.create_table(
        "stop_requests",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_stop_requests"),
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.add_column("journal", sa.Column("digest", KEY))
    op.create_index("ix_journal_digest", "journal", ["digest"], unique=True)
