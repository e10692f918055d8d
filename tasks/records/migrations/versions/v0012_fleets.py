"""Adds the name of the fleet to which the tables belong: each fleet has its own from here on."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table. Who migrates writes its row: see tasks/records/setup.py."""
    op.create_table(
        "fleet_stamp",
        sa.Column("fleet", sa.String(255), nullable=False),
        sa.Column("was_shared", sa.Boolean, nullable=False),
        sa.Column("separated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("fleet", name="pk_fleet_stamp"),
    )
