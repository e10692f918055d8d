"""Gives sessions of browsers their own roles, times and seals, and adds links that log in once.

Sessions that are there have no seal: their people log in again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

KEY = sa.String(255)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table of sessions anew, and add the table of links."""
    op.drop_index("ix_web_sessions_name", "web_sessions")
    op.drop_table("web_sessions")
    op.create_table(
        "web_sessions",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        sa.Column("ticket", sa.Text, nullable=False),
        sa.Column("seal", KEY, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_web_sessions"),
    )
    op.create_index("ix_web_sessions_name", "web_sessions", ["name"])
    op.create_index("ix_web_sessions_subject", "web_sessions", ["subject"])
    op.create_table(
        "login_links",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("seal", KEY, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_login_links"),
    )
