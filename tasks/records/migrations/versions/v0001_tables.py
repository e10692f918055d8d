"""Adds all tables of release 0.1.0. Later revisions change them: this file stays as it is."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.String(255)
TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


Kind = sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]


def _add_table(
    name: str, *parts: sa.schema.SchemaItem, sqlite_autoincrement: bool = False, sqlite_with_rowid: bool = True
) -> None:
    sa.Table(name, TABLES, *parts, sqlite_autoincrement=sqlite_autoincrement, sqlite_with_rowid=sqlite_with_rowid)


def _primary(kind: Kind, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, primary_key=True) for name in names]


def _required(kind: Kind, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _optional(kind: Kind, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind) for name in names]


_add_table(
    "runs",
    *_primary(KEY, "id"),
    *_required(KEY, "kind", "state"),
    *_required(TIME, "started_at"),
    *_optional(TIME, "ended_at"),
    *_required(sa.Text, "scope", "started_by"),
    *_required(KEY, "flow_run_id"),
    *_required(sa.Text, "message", "document"),
    *_optional(KEY, "seal"),
    sa.Index(None, "flow_run_id"),
    sa.Index(None, "started_at"),
    sa.Index(None, "state"),
)
_add_table(
    "run_plans",
    *_primary(KEY, "run_id"),
    *_required(sa.Text, "document"),
    *_optional(KEY, "seal"),
)
_add_table(
    "machine_plans",
    *_primary(KEY, "run_id", "machine"),
    *_required(sa.Text, "document"),
    *_required(sa.LargeBinary, "updates"),
    *_optional(KEY, "seal"),
)
_add_table(
    "assessments",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    *_required(KEY, "run_id", "machine"),
    *_required(TIME, "at"),
    *_required(sa.Boolean, "known"),
    *_required(KEY, "compliance"),
    *_required(sa.Integer, "urgent", "other"),
    *_required(KEY, "reboot", "os_id", "os_version", "error_kind"),
    *_required(sa.Text, "error_message", "document"),
    *_optional(sa.LargeBinary, "updates"),
    *_optional(KEY, "seal"),
    sa.UniqueConstraint("machine", "at", "run_id"),
    sa.Index(None, "machine", "known", "at"),
    sa.Index(None, "run_id"),
    sqlite_autoincrement=True,
)
_add_table(
    "assessment_updates",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("assessment", NUMBER, sa.ForeignKey("assessments.number", ondelete="CASCADE"), nullable=False),
    *_required(KEY, "machine", "update_id", "name", "arch", "classification", "severity"),
    *_optional(sa.Text, "installed"),
    *_required(sa.Text, "available"),
    *_required(KEY, "kb"),
    *_required(sa.Boolean, "held"),
    *_required(sa.Text, "blocked"),
    *_optional(TIME, "published"),
    *_optional(sa.Text, "title"),
    *_optional(TIME, "since"),
    sa.Index(None, "assessment"),
    sa.Index(None, "machine"),
    sa.Index(None, "name"),
)
_add_table(
    "outcomes",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    *_required(KEY, "run_id", "machine", "state"),
    *_required(sa.Text, "reason"),
    *_required(KEY, "reboot"),
    *_optional(sa.Integer, "wave"),
    *_optional(TIME, "started_at", "ended_at"),
    *_required(sa.Float, "window_exceeded_seconds"),
    *_required(sa.Integer, "updates_installed", "updates_failed"),
    *_required(KEY, "error_kind"),
    *_required(sa.Text, "document"),
    *_optional(sa.Text, "counts"),
    *_optional(sa.LargeBinary, "updates"),
    sa.UniqueConstraint("run_id", "machine"),
    sa.Index(None, "machine", "started_at"),
    sqlite_autoincrement=True,
)
_add_table(
    "update_results",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("outcome", NUMBER, sa.ForeignKey("outcomes.number", ondelete="CASCADE"), nullable=False),
    *_required(KEY, "run_id", "machine", "update_id", "name", "arch", "classification", "state"),
    *_required(sa.Text, "reason"),
    *_optional(sa.Text, "installed"),
    *_required(sa.Text, "available"),
    *_optional(sa.Text, "version_after"),
    *_required(KEY, "kb"),
    sa.Index(None, "name"),
    sa.Index(None, "outcome"),
)
_add_table(
    "journal",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    *_required(KEY, "run_id", "machine", "step", "mark", "act", "key"),
    *_required(TIME, "at"),
    *_required(sa.Text, "document"),
    *_optional(KEY, "digest", "seal"),
    sa.Index(None, "digest", unique=True),
    sa.Index(None, "run_id", "machine", "number"),
    sqlite_autoincrement=True,
)
_add_table(
    "job_outputs",
    *_primary(KEY, "run_id", "machine", "job_id"),
    *_required(sa.BigInteger, "characters"),
    *_required(sa.LargeBinary, "body"),
)
_add_table(
    "measures",
    *_primary(KEY, "run_id", "machine", "measure"),
    *_required(TIME, "at"),
    *_required(sa.Float, "value"),
    sa.Index(None, "machine", "measure", "at"),
)
_add_table(
    "leases",
    *_primary(KEY, "run_id"),
    *_required(KEY, "holder_id"),
    *_required(sa.Text, "host"),
    *_required(sa.BigInteger, "pid"),
    *_required(sa.Text, "username"),
    *_required(TIME, "until"),
    *_required(sa.Boolean, "given_back"),
)
_add_table(
    "stop_requests",
    *_primary(KEY, "run_id"),
    *_required(sa.Text, "who", "reason"),
    *_required(TIME, "at"),
)
_add_table(
    "approvals",
    *_primary(KEY, "run_id"),
    *_required(KEY, "digest"),
    *_required(TIME, "asked_at", "expires_at"),
    *_required(KEY, "decision"),
    *_required(sa.Text, "who", "remark"),
    *_optional(TIME, "decided_at"),
    *_optional(KEY, "seal"),
    sa.Index(None, "decision"),
)
_add_table(
    "occurrences",
    *_primary(KEY, "configuration"),
    *_primary(TIME, "starts_at"),
    *_required(KEY, "run_id", "what"),
    *_required(sa.Text, "reason"),
    *_required(TIME, "at"),
    sa.Index(None, "run_id"),
)
_add_table(
    "retention",
    *_primary(KEY, "what"),
    *_optional(sa.Integer, "days"),
    *_optional(TIME, "applied_at"),
)
_add_table(
    "set_slots",
    *_primary(KEY, "set_name", "machine"),
    *_required(KEY, "run_id", "domain"),
    *_required(TIME, "since"),
    *_required(sa.Text, "reason"),
    *_required(sa.Boolean, "drained"),
    sa.Index(None, "run_id"),
)
_add_table(
    "rollouts",
    *_primary(KEY, "id"),
    *_required(KEY, "state"),
    *_required(TIME, "created_at"),
    *_optional(TIME, "ended_at"),
    *_required(sa.Text, "document"),
    *_required(sa.LargeBinary, "updates"),
    *_optional(KEY, "seal"),
    sa.Index(None, "state"),
)
_add_table(
    "decisions",
    *_primary(KEY, "key_id"),
    sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
    *_required(KEY, "previous", "kind"),
    *_required(sa.Text, "subject"),
    *_required(KEY, "decision"),
    *_required(TIME, "at"),
    *_required(KEY, "seal"),
)
_add_table(
    "automatic_runs",
    *_primary(KEY, "key"),
    *_required(KEY, "rollout_id", "flow_run_id"),
    *_required(TIME, "window_start", "window_end", "at"),
    *_required(sa.Text, "document"),
    sa.Index(None, "rollout_id"),
)
_add_table(
    "update_sightings",
    *_primary(KEY, "name", "version"),
    *_required(TIME, "first_seen"),
    *_optional(TIME, "published"),
)
_add_table(
    "missing_fixes",
    *_primary(KEY, "machine", "name"),
    *_required(TIME, "since"),
)
_add_table(
    "opt_outs",
    *_required(sa.Text, "scope"),
    *_primary(KEY, "digest"),
    *_required(sa.Text, "who", "reason"),
    *_required(TIME, "at"),
    *_optional(TIME, "until"),
)
_add_table(
    "held_updates",
    *_primary(KEY, "name", "version"),
    *_required(KEY, "rollout_id"),
    *_required(sa.Text, "reason"),
    *_required(TIME, "at"),
    *_required(sa.Text, "released_by"),
    *_optional(TIME, "released_at"),
)
_add_table(
    "announcements",
    *_primary(KEY, "key"),
    *_required(TIME, "at"),
    *_required(sa.Text, "message"),
)
_add_table(
    "hotpatch_enrolments",
    *_primary(KEY, "machine"),
    *_required(KEY, "status"),
    *_required(TIME, "at"),
    *_required(sa.Text, "document"),
)
_add_table(
    "machine_states",
    *_primary(KEY, "machine"),
    *_required(KEY, "run_id"),
    *_required(TIME, "at"),
    *_required(KEY, "error_kind"),
    *_required(sa.Text, "error_message"),
    *_optional(TIME, "answered_at"),
    *_required(KEY, "compliance"),
    *_required(sa.Integer, "critical", "security", "other", "withheld"),
    *_required(KEY, "reboot"),
    *_optional(TIME, "reboot_since"),
    *_required(sa.Integer, "services_to_restart", "problems", "findings"),
    *_required(KEY, "os_id", "os_version", "os_name", "manager"),
    *_optional(sa.Text, "details"),
    sqlite_with_rowid=False,
)
_add_table(
    "machine_last_runs",
    *_primary(KEY, "machine"),
    *_required(KEY, "run_id", "kind", "state"),
    *_required(TIME, "at"),
    sa.Index(None, "run_id"),
    sqlite_with_rowid=False,
)
_add_table(
    "machine_days",
    *_primary(sa.Date, "day"),
    *_primary(KEY, "machine"),
    *_required(KEY, "compliance"),
    *_required(sa.Integer, "critical", "security", "other"),
    *_required(KEY, "reboot"),
    sqlite_with_rowid=False,
)
_add_table(
    "update_cves",
    *_primary(KEY, "name", "version", "cve"),
    sa.Index(None, "cve"),
    sqlite_with_rowid=False,
)
_add_table(
    "run_progress",
    *_primary(KEY, "run_id", "machine"),
    *_required(KEY, "step", "state"),
    *_optional(sa.Float, "fraction"),
    *_required(sa.Text, "message"),
    *_required(TIME, "since", "at"),
    *_optional(sa.Integer, "wave", "position"),
)
_add_table(
    "access_tokens",
    *_primary(KEY, "name"),
    *_required(KEY, "digest", "roles"),
    *_required(sa.Text, "created_by"),
    *_required(TIME, "created_at"),
    *_optional(TIME, "expires_at", "used_at"),
    *_optional(sa.Text, "signature"),
    sa.Index(None, "digest", unique=True),
)
_add_table(
    "web_sessions",
    *_primary(KEY, "digest"),
    *_required(KEY, "name"),
    *_required(sa.Text, "roles"),
    *_required(KEY, "source", "subject"),
    *_required(TIME, "created_at", "expires_at", "used_at", "checked_at"),
    *_required(sa.Text, "ticket"),
    *_required(KEY, "seal"),
    sa.Index(None, "name"),
    sa.Index(None, "subject"),
)
_add_table(
    "login_links",
    *_primary(KEY, "digest"),
    *_required(KEY, "name"),
    *_required(sa.Text, "roles"),
    *_required(TIME, "expires_at"),
    *_required(KEY, "seal"),
)
_add_table(
    "audit_log",
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    *_required(TIME, "at"),
    *_required(sa.Text, "who", "address"),
    *_required(KEY, "act"),
    *_required(sa.Text, "subject", "detail"),
    *_required(KEY, "result"),
    *_required(sa.Text, "message"),
    *_required(KEY, "source"),
    *_required(sa.Text, "claimed"),
    *_required(KEY, "previous", "key_id", "seal"),
    sa.Index(None, "at"),
    sqlite_autoincrement=True,
)
_add_table(
    "requested_runs",
    *_primary(KEY, "key"),
    *_required(KEY, "flow", "request_digest"),
    *_required(sa.Text, "who"),
    *_required(TIME, "at"),
    *_required(KEY, "flow_run_id"),
    sa.Column("scope", sa.Text, nullable=False, server_default=""),
    *_optional(KEY, "seal"),
)
_add_table(
    "fleet_stamp",
    *_primary(KEY, "fleet"),
)


def upgrade() -> None:
    """Create the tables."""
    TABLES.create_all(op.get_bind(), checkfirst=False)
