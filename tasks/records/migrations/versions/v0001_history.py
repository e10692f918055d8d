"""Adds runs, assessments, outcomes, the journal and the output of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.String(255)
MOMENT = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _runs()
    _assessments()
    _outcomes()
    _journal()


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("flow_run_id", KEY, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_index("ix_runs_flow_run_id", "runs", ["flow_run_id"])


def _assessments() -> None:
    op.create_table(
        "assessments",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("known", sa.Boolean, nullable=False),
        sa.Column("compliance", KEY, nullable=False),
        sa.Column("urgent", sa.Integer, nullable=False),
        sa.Column("other", sa.Integer, nullable=False),
        sa.Column("reboot", KEY, nullable=False),
        sa.Column("os_id", KEY, nullable=False),
        sa.Column("os_version", KEY, nullable=False),
        sa.Column("error_kind", KEY, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_assessments"),
        sa.UniqueConstraint("machine", "at", "run_id", name="uq_assessments_machine_at_run_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_assessments_run_id", "assessments", ["run_id"])
    op.create_table(
        "assessment_updates",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("assessment", NUMBER, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("update_id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("arch", KEY, nullable=False),
        sa.Column("classification", KEY, nullable=False),
        sa.Column("severity", KEY, nullable=False),
        sa.Column("installed", sa.Text),
        sa.Column("available", sa.Text, nullable=False),
        sa.Column("kb", KEY, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("blocked", sa.Text, nullable=False),
        sa.Column("published", MOMENT),
        sa.PrimaryKeyConstraint("number", name="pk_assessment_updates"),
        sa.ForeignKeyConstraint(
            ["assessment"], ["assessments.number"], "fk_assessment_updates_assessment_assessments", ondelete="CASCADE"
        ),
    )
    for column in ("assessment", "machine", "name"):
        op.create_index(f"ix_assessment_updates_{column}", "assessment_updates", [column])


def _outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("reboot", KEY, nullable=False),
        sa.Column("wave", sa.Integer),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("window_exceeded_seconds", sa.Float, nullable=False),
        sa.Column("updates_installed", sa.Integer, nullable=False),
        sa.Column("updates_failed", sa.Integer, nullable=False),
        sa.Column("error_kind", KEY, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_outcomes"),
        sa.UniqueConstraint("run_id", "machine", name="uq_outcomes_run_id_machine"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outcomes_machine_started_at", "outcomes", ["machine", "started_at"])
    op.create_table(
        "update_results",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("outcome", NUMBER, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("update_id", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("arch", KEY, nullable=False),
        sa.Column("classification", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("installed", sa.Text),
        sa.Column("available", sa.Text, nullable=False),
        sa.Column("version_after", sa.Text),
        sa.Column("kb", KEY, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_update_results"),
        sa.ForeignKeyConstraint(
            ["outcome"], ["outcomes.number"], "fk_update_results_outcome_outcomes", ondelete="CASCADE"
        ),
    )
    for column in ("outcome", "name"):
        op.create_index(f"ix_update_results_{column}", "update_results", [column])


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("step", KEY, nullable=False),
        sa.Column("mark", KEY, nullable=False),
        sa.Column("act", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_journal"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_run_id_machine_number", "journal", ["run_id", "machine", "number"])
    op.create_table(
        "job_outputs",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("characters", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "machine", "job_id", name="pk_job_outputs"),
    )
