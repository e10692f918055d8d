"""Adds the tables of machine sets, automatic patching and hotpatch enrolment. Existing rows are not changed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

KEY = sa.String(255)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    _add_sets()
    _add_rollouts()
    _add_sightings()
    _add_decisions_of_people()


def _add_sets() -> None:
    op.create_table(
        "set_slots",
        sa.Column("set_name", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("domain", KEY, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("drained", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("set_name", "machine", name="pk_set_slots"),
    )
    op.create_index("ix_set_slots_run_id", "set_slots", ["run_id"])


def _add_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updates", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_state", "rollouts", ["state"])
    op.create_table(
        "automatic_runs",
        sa.Column("key", KEY, nullable=False),
        sa.Column("rollout_id", KEY, nullable=False),
        sa.Column("flow_run_id", KEY, nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_automatic_runs"),
    )
    op.create_index("ix_automatic_runs_rollout_id", "automatic_runs", ["rollout_id"])


def _add_sightings() -> None:
    op.create_table(
        "update_sightings",
        sa.Column("name", KEY, nullable=False),
        sa.Column("version", KEY, nullable=False),
        sa.Column("first_seen", TIME, nullable=False),
        sa.Column("published", TIME),
        sa.PrimaryKeyConstraint("name", "version", name="pk_update_sightings"),
    )
    op.create_table(
        "missing_fixes",
        sa.Column("machine", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.PrimaryKeyConstraint("machine", "name", name="pk_missing_fixes"),
    )


def _add_decisions_of_people() -> None:
    op.create_table(
        "opt_outs",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("until", TIME),
        sa.PrimaryKeyConstraint("digest", name="pk_opt_outs"),
    )
    op.create_table(
        "held_updates",
        sa.Column("name", KEY, nullable=False),
        sa.Column("version", KEY, nullable=False),
        sa.Column("rollout_id", KEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("released_by", sa.Text, nullable=False),
        sa.Column("released_at", TIME),
        sa.PrimaryKeyConstraint("name", "version", name="pk_held_updates"),
    )
    op.create_table(
        "announcements",
        sa.Column("key", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_announcements"),
    )
    op.create_table(
        "hotpatch_enrolments",
        sa.Column("machine", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_hotpatch_enrolments"),
    )
