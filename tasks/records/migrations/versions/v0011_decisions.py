"""Adds the chain of decisions: a state of before a decision, put back by SQL, does nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

KEY = sa.String(255)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "decisions",
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("previous", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("decision", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seal", KEY, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "number", name="pk_decisions"),
    )
