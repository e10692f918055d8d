"""The table of the snapshots that runs have taken."""

import sqlalchemy as sa
from alembic import op

from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table with its index."""
    op.create_table(
        "snapshots",
        sa.Column("snapshot", KeyType, nullable=False),
        sa.Column("machine", KeyType, nullable=False),
        sa.Column("provider", TextType, nullable=False),
        sa.Column("run_id", KeyType, nullable=False),
        sa.Column("ordered_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("state", KeyType, nullable=False),
        sa.Column("consistency", KeyType, nullable=False),
        sa.Column("used_bytes", sa.BigInteger),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("note", TextType, nullable=False),
        sa.Column("seal", KeyType),
        sa.PrimaryKeyConstraint("snapshot", "machine", name="pk_snapshots"),
    )
    op.create_index("ix_snapshots_state_expires_at", "snapshots", ["state", "expires_at"])
