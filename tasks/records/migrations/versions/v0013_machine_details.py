"""Adds what lists show of a machine beside its figures. The next assessment of each machine fills it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column."""
    op.add_column("machine_states", sa.Column("details", sa.Text))
