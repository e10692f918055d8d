"""The tables of maintenance control."""

import sqlalchemy as sa
from alembic import op

from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "held_groups",
        sa.Column("group_name", KeyType, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("looked_at", UtcDateTime),
        sa.Column("removed_at", UtcDateTime),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("group_name", name="pk_held_groups"),
    )
    op.create_table(
        "held_packages",
        sa.Column("group_name", KeyType, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("first_seen", UtcDateTime, nullable=False),
        sa.Column("applies_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.Column("how", KeyType, nullable=False),
        sa.Column("updates", sa.LargeBinary, nullable=False),
        sa.Column("seal", KeyType),
        sa.PrimaryKeyConstraint("group_name", "number", name="pk_held_packages"),
    )
    op.create_index("ix_held_packages_first_seen", "held_packages", ["first_seen"])
    op.create_table(
        "held_applications",
        sa.Column("key", KeyType, nullable=False),
        sa.Column("group_name", KeyType, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("cause", KeyType, nullable=False),
        sa.Column("who", TextType, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.Column("flow_run_id", KeyType, nullable=False),
        sa.Column("run_id", KeyType, nullable=False),
        sa.Column("refusal", TextType, nullable=False),
        sa.Column("refused_at", UtcDateTime),
        sa.PrimaryKeyConstraint("key", name="pk_held_applications"),
    )
    op.create_index("ix_held_applications_group_name_number", "held_applications", ["group_name", "number"])
