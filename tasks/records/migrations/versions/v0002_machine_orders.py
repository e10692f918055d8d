"""Changes of machines that people ask for outside of runs."""

from alembic import op

from tasks.records.page_schema import machine_orders

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table with its index."""
    machine_orders.create(op.get_bind())
