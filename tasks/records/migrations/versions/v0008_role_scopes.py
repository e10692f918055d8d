"""Adds the scope of the starter's role to requested runs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("requested_runs", sa.Column("scope", sa.Text, nullable=False, server_default=""))
