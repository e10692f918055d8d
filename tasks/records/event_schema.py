"""The tables of scheduled events: what machines are told before a run interrupts them, and who has approved."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table

from tasks.records.schema import metadata
from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

scheduled_events = Table(
    "scheduled_events",
    metadata,
    Column("id", KeyType, primary_key=True),
    Column("run_id", KeyType, nullable=False, index=True),
    Column("act", KeyType, nullable=False),
    Column("event_type", KeyType, nullable=False),
    Column("source", KeyType, nullable=False),
    Column("rule", KeyType, nullable=False),
    Column("status", KeyType, nullable=False, index=True),
    Column("not_before", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("announced_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("duration_seconds", Integer, nullable=False),
    Column("description", TextType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("withdrawn_by", TextType, nullable=False),
    Column("approved_by", TextType),
    Column("approved_at", UtcDateTime),
)
"""Events, those that are over included. ``approved_by`` is the person who approved for all resources; None: nobody."""

event_machines = Table(
    "event_machines",
    metadata,
    Column("event_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("is_resource", Boolean, nullable=False),
    Column("approved_at", UtcDateTime),
    Index(None, "machine"),
    sqlite_with_rowid=False,
)
"""The machines that are told an event. ``is_resource``: it is interrupted. ``approved_at``: when a program approved."""

event_documents = Table(
    "event_documents",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("incarnation", BigInteger, nullable=False),
    Column("digest", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)
"""The incarnation of each machine's document, and the digest of its events. A row is never deleted.

The machine "" counts the changes of all documents: no incarnation is above its number. So a document that begins gets
that number, and so does one of which the row was lost.
"""

event_tokens = Table(
    "event_tokens",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("digest", KeyType, nullable=False),
    Column("created_by", TextType, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "digest", unique=True),
)
"""The token of a machine for its events, as a SHA-256 digest: the token itself is shown once, and not kept."""
