"""Adds the tables of scheduled events."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.String(255)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "scheduled_events",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("run_id", _KEY, nullable=False),
        sa.Column("act", _KEY, nullable=False),
        sa.Column("event_type", _KEY, nullable=False),
        sa.Column("source", _KEY, nullable=False),
        sa.Column("rule", _KEY, nullable=False),
        sa.Column("status", _KEY, nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("announced_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("duration_seconds", sa.Integer, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("withdrawn_by", sa.Text, nullable=False),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_scheduled_events"),
    )
    op.create_index("ix_scheduled_events_run_id", "scheduled_events", ["run_id"])
    op.create_index("ix_scheduled_events_status", "scheduled_events", ["status"])
    op.create_table(
        "event_machines",
        sa.Column("event_id", _KEY, nullable=False),
        sa.Column("machine", _KEY, nullable=False),
        sa.Column("is_resource", sa.Boolean, nullable=False),
        sa.Column("approved_at", _TIME),
        sa.PrimaryKeyConstraint("event_id", "machine", name="pk_event_machines"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_event_machines_machine", "event_machines", ["machine"])
    op.create_table(
        "event_documents",
        sa.Column("machine", _KEY, nullable=False),
        sa.Column("incarnation", sa.BigInteger, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_event_documents"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event_tokens",
        sa.Column("machine", _KEY, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_event_tokens"),
    )
    op.create_index("ix_event_tokens_digest", "event_tokens", ["digest"], unique=True)
