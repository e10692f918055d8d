"""Adds the tables of the pages: the state of each machine, its days, progress of runs, logins and the audit log.

``machine_states`` is filled from the newest assessments, and ``machine_last_runs`` from the newest outcomes. Pending
updates get their title and since when they are pending; other existing rows are not changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

KEY = sa.String(255)
TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    _add_machine_states()
    _add_last_runs()
    _add_days_and_cves()
    _add_progress()
    _add_logins()
    _add_requested_runs()
    _fill_machine_states()
    _fill_last_runs()
    _add_columns_of_pending_updates()


def _add_machine_states() -> None:
    op.create_table(
        "machine_states",
        sa.Column("machine", KEY, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("error_kind", KEY, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("answered_at", TIME),
        sa.Column("compliance", KEY, nullable=False),
        sa.Column("critical", sa.Integer, nullable=False),
        sa.Column("security", sa.Integer, nullable=False),
        sa.Column("other", sa.Integer, nullable=False),
        sa.Column("withheld", sa.Integer, nullable=False),
        sa.Column("reboot", KEY, nullable=False),
        sa.Column("reboot_since", TIME),
        sa.Column("services_to_restart", sa.Integer, nullable=False),
        sa.Column("problems", sa.Integer, nullable=False),
        sa.Column("findings", sa.Integer, nullable=False),
        sa.Column("os_id", KEY, nullable=False),
        sa.Column("os_version", KEY, nullable=False),
        sa.Column("os_name", KEY, nullable=False),
        sa.Column("manager", KEY, nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_machine_states"),
        sqlite_with_rowid=False,
    )


def _add_last_runs() -> None:
    op.create_table(
        "machine_last_runs",
        sa.Column("machine", KEY, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_machine_last_runs"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_machine_last_runs_run_id", "machine_last_runs", ["run_id"])


def _add_days_and_cves() -> None:
    op.create_table(
        "machine_days",
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("compliance", KEY, nullable=False),
        sa.Column("critical", sa.Integer, nullable=False),
        sa.Column("security", sa.Integer, nullable=False),
        sa.Column("other", sa.Integer, nullable=False),
        sa.Column("reboot", KEY, nullable=False),
        sa.PrimaryKeyConstraint("day", "machine", name="pk_machine_days"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "update_cves",
        sa.Column("name", KEY, nullable=False),
        sa.Column("version", KEY, nullable=False),
        sa.Column("cve", KEY, nullable=False),
        sa.PrimaryKeyConstraint("name", "version", "cve", name="pk_update_cves"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_update_cves_cve", "update_cves", ["cve"])


def _add_progress() -> None:
    op.create_table(
        "run_progress",
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("machine", KEY, nullable=False),
        sa.Column("step", KEY, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("fraction", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("wave", sa.Integer),
        sa.Column("position", sa.Integer),
        sa.PrimaryKeyConstraint("run_id", "machine", name="pk_run_progress"),
    )


def _add_logins() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("name", KEY, nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("roles", KEY, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("used_at", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_access_tokens"),
    )
    op.create_index("ix_access_tokens_digest", "access_tokens", ["digest"], unique=True)
    op.create_table(
        "web_sessions",
        sa.Column("digest", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_web_sessions"),
    )
    op.create_index("ix_web_sessions_name", "web_sessions", ["name"])
    op.create_table(
        "audit_log",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("act", KEY, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("result", KEY, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("source", KEY, nullable=False),
        sa.Column("claimed", sa.Text, nullable=False),
        sa.Column("previous", KEY, nullable=False),
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("seal", KEY, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"])


def _add_requested_runs() -> None:
    op.create_table(
        "requested_runs",
        sa.Column("key", KEY, nullable=False),
        sa.Column("flow", KEY, nullable=False),
        sa.Column("request_digest", KEY, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("flow_run_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_requested_runs"),
    )


def _fill_machine_states() -> None:
    op.execute(
        """
        INSERT INTO machine_states (machine, run_id, at, error_kind, error_message, answered_at, compliance, critical,
          security, other, withheld, reboot, reboot_since, services_to_restart, problems, findings, os_id, os_version,
          os_name, manager)
        SELECT newest.machine, newest.run_id, newest.at, newest.error_kind, newest.error_message, answered.at,
          COALESCE(answered.compliance, newest.compliance),
          (SELECT COUNT(*) FROM assessment_updates u
            WHERE u.assessment = answered.number AND u.classification = 'Critical'),
          COALESCE(answered.urgent, 0) - (SELECT COUNT(*) FROM assessment_updates u
            WHERE u.assessment = answered.number AND u.classification = 'Critical'),
          COALESCE(answered.other, 0), 0, COALESCE(answered.reboot, 'unknown'), NULL, 0, 0, 0,
          COALESCE(answered.os_id, ''), COALESCE(answered.os_version, ''), '', ''
        FROM assessments newest
        LEFT JOIN assessments answered ON answered.number = (
          SELECT a.number FROM assessments a WHERE a.machine = newest.machine AND a.known
          ORDER BY a.at DESC, a.number DESC LIMIT 1)
        WHERE newest.number = (
          SELECT a.number FROM assessments a WHERE a.machine = newest.machine ORDER BY a.at DESC, a.number DESC LIMIT 1)
        """
    )


def _fill_last_runs() -> None:
    op.execute(
        """
        INSERT INTO machine_last_runs (machine, run_id, kind, state, at)
        SELECT o.machine, o.run_id, r.kind, o.state, COALESCE(o.started_at, o.ended_at, r.started_at)
        FROM (SELECT DISTINCT machine FROM outcomes) m
        JOIN outcomes o ON o.number = (
          SELECT p.number FROM outcomes p JOIN runs q ON q.id = p.run_id
          WHERE p.machine = m.machine AND q.kind NOT IN ('assess', 'plan')
          ORDER BY COALESCE(p.started_at, p.ended_at, q.started_at) DESC, p.number DESC LIMIT 1)
        JOIN runs r ON r.id = o.run_id
        """
    )


def _add_columns_of_pending_updates() -> None:
    op.add_column("assessment_updates", sa.Column("title", sa.Text))
    op.add_column("assessment_updates", sa.Column("since", TIME))
    op.execute(
        """
        UPDATE assessment_updates SET since = COALESCE(
          (SELECT m.since FROM missing_fixes m
            WHERE m.machine = assessment_updates.machine AND m.name = assessment_updates.name),
          (SELECT a.at FROM assessments a WHERE a.number = assessment_updates.assessment))
        """
    )
