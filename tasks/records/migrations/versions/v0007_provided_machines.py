"""The table of machines as their providers had them last."""

import sqlalchemy as sa
from alembic import op

from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "provided_machines",
        sa.Column("machine", KeyType, nullable=False),
        sa.Column("provider", KeyType, nullable=False),
        sa.Column("address", TextType, nullable=False),
        sa.Column("identity", TextType, nullable=False),
        sa.Column("proven_at", UtcDateTime),
        sa.Column("notes", TextType, nullable=False),
        sa.Column("loss", TextType, nullable=False),
        sa.Column("seal", KeyType),
        sa.PrimaryKeyConstraint("machine", "provider", name="pk_provided_machines"),
    )
