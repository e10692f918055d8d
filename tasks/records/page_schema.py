"""The tables of the pages: the state of machines, their days, runs under way, logins, the audit log, enrolments."""

from sqlalchemy import Column, Date, Float, Index, Integer, Table, Text

from tasks.records.schema import RowNumber, metadata
from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

machine_states = Table(
    "machine_states",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("run_id", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("error_kind", KeyType, nullable=False),
    Column("error_message", TextType, nullable=False),
    Column("answered_at", UtcDateTime),
    Column("compliance", KeyType, nullable=False),
    Column("critical", Integer, nullable=False),
    Column("security", Integer, nullable=False),
    Column("other", Integer, nullable=False),
    Column("withheld", Integer, nullable=False),
    Column("reboot", KeyType, nullable=False),
    Column("reboot_since", UtcDateTime),
    Column("services_to_restart", Integer, nullable=False),
    Column("problems", Integer, nullable=False),
    Column("findings", Integer, nullable=False),
    Column("os_id", KeyType, nullable=False),
    Column("os_version", KeyType, nullable=False),
    Column("os_name", KeyType, nullable=False),
    Column("manager", KeyType, nullable=False),
    Column("details", TextType),
    sqlite_with_rowid=False,
)
"""The state of each machine by its newest assessment, in columns: lists of machines read no documents.

``run_id``, ``at`` and the error are of the newest assessment. All else is of the newest one with an answer, from
``answered_at``; None: it has never answered. ``withheld`` counts updates that are held or blocked, ``problems`` faults
of packages and repositories, ``findings`` warnings and worse. ``details`` is JSON: see tasks/records/machine_rows.py.
"""

machine_last_runs = Table(
    "machine_last_runs",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("run_id", KeyType, nullable=False, index=True),
    Column("kind", KeyType, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""The newest run of each machine that may have changed it, and the machine's state in it. ``at`` is its start there.

Tables that pages read have no row numbers on SQLite: rows lie in the order of their key, and take half the space.
"""

machine_days = Table(
    "machine_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("compliance", KeyType, nullable=False),
    Column("critical", Integer, nullable=False),
    Column("security", Integer, nullable=False),
    Column("other", Integer, nullable=False),
    Column("reboot", KeyType, nullable=False),
    sqlite_with_rowid=False,
)
"""The state of each machine at its last assessment with an answer of each day (UTC). Days without one have no row."""

update_cves = Table(
    "update_cves",
    metadata,
    Column("name", KeyType, primary_key=True),
    Column("version", KeyType, primary_key=True),
    Column("cve", KeyType, primary_key=True),
    Index(None, "cve"),
    sqlite_with_rowid=False,
)
"""The CVEs that an update fixes, by its name and available version."""

run_progress = Table(
    "run_progress",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("step", KeyType, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("fraction", Float),
    Column("message", TextType, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("wave", Integer),
    Column("position", Integer),
)
"""What each machine of an unfinished run does now. The machine "" is the run itself. Only for display.

``position`` is the place of the machine in the order of the run, from 0. ``at`` is the time of the last news; that of
the run itself is renewed while its process lives.
"""

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("name", KeyType, primary_key=True),
    Column("digest", KeyType, nullable=False),
    Column("roles", KeyType, nullable=False),
    Column("created_by", TextType, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("used_at", UtcDateTime),
    Column("signature", TextType),
    Index(None, "digest", unique=True),
)
"""The logins of pages and programs. ``digest`` is the token's SHA-256: the token itself is shown once, and not kept.

``signature`` is the Ed25519 signature of all but ``used_at``: only who has the private key makes a token valid.
"""

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("digest", KeyType, primary_key=True),
    Column("name", KeyType, nullable=False, index=True),
    Column("roles", TextType, nullable=False),
    Column("source", KeyType, nullable=False),
    Column("subject", KeyType, nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),
    Column("checked_at", UtcDateTime, nullable=False),
    Column("ticket", TextType, nullable=False),
    Column("seal", KeyType, nullable=False),
)
"""The browsers that are logged in, by the SHA-256 of their cookie.

``source`` says how they logged in, and ``subject`` who they are there. ``ticket`` is encrypted. ``seal`` is made with a
key of the pages: who can write this table, but has not the key, can make no session and change no role.
"""

login_links = Table(
    "login_links",
    metadata,
    Column("digest", KeyType, primary_key=True),
    Column("name", KeyType, nullable=False),
    Column("roles", TextType, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("seal", KeyType, nullable=False),
)
"""The links that log in once, by the SHA-256 of their code. ``seal`` is made with a key of the pages."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("who", TextType, nullable=False),
    Column("address", TextType, nullable=False),
    Column("act", KeyType, nullable=False),
    Column("subject", TextType, nullable=False),
    Column("detail", TextType, nullable=False),
    Column("result", KeyType, nullable=False),
    Column("message", TextType, nullable=False),
    Column("source", KeyType, nullable=False),
    Column("claimed", TextType, nullable=False),
    Column("previous", KeyType, nullable=False),
    Column("key_id", KeyType, nullable=False),
    Column("seal", KeyType, nullable=False),
    sqlite_autoincrement=True,
)
"""Every act of people and programs: "begun", then "done", "failed" or "refused". See tasks/domain/rows/audit.py."""

requested_runs = Table(
    "requested_runs",
    metadata,
    Column("key", KeyType, primary_key=True),
    Column("flow", KeyType, nullable=False),
    Column("request_digest", KeyType, nullable=False),
    Column("who", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("flow_run_id", KeyType, nullable=False),
    Column("scope", TextType, nullable=False, server_default=""),
    Column("seal", KeyType),
)
"""Flow runs that people start through the pages or the API, by Prefect's idempotency key: who started each.

Prefect does not know who started a flow run, and who may use Prefect could write any name there. ``flow_run_id`` is the
first flow run that began with the key, and "" before: no other one gets the name. ``scope`` is that of the role.
"""

machine_orders = Table(
    "machine_orders",
    metadata,
    Column("order_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("act", KeyType, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("document", Text, nullable=False),
    Index("ix_machine_orders_began_at", "began_at"),
)
"""Changes of machines that people asked for outside of runs: written before each begins, and when it has ended."""

hotpatch_enrolments = Table(
    "hotpatch_enrolments",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("status", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("document", Text, nullable=False),
)
"""The last enrolment for hotpatches or live patches that people asked for, by machine."""

component_enrolments = Table(
    "component_enrolments",
    metadata,
    Column("digest", KeyType, primary_key=True),
    Column("component", KeyType, nullable=False),
    Column("scope", TextType, nullable=False),
    Column("role_scope", TextType, nullable=False),
    Column("who", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
"""The components that are upgraded by themselves on the machines of a scope. What became of that is in the outcomes."""
