"""Adds the changes of machines that people ask for outside of runs."""

import sqlalchemy as sa
from alembic import op

from tasks.records.storage.column_types import KeyType, UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table with its index."""
    op.create_table(
        "machine_orders",
        sa.Column("order_id", KeyType, nullable=False),
        sa.Column("machine", KeyType, nullable=False),
        sa.Column("act", KeyType, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("state", KeyType, nullable=False),
        sa.Column("began_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "machine", name="pk_machine_orders"),
    )
    op.create_index("ix_machine_orders_began_at", "machine_orders", ["began_at"])
