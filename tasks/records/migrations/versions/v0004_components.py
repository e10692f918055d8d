"""Adds the enrolments of components: which ones are upgraded by themselves, on which machines."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.String(255)


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "component_enrolments",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("component", KEY, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("role_scope", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_component_enrolments"),
    )
