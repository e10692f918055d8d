"""The tables of disks that providers hold: the snapshots that runs have taken, and the machines as they were last."""

from sqlalchemy import BigInteger, Column, Index, Table

from tasks.records.schema import metadata
from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("provider", TextType, nullable=False),
    Column("run_id", KeyType, nullable=False),
    Column("ordered_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("consistency", KeyType, nullable=False),
    Column("used_bytes", BigInteger),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("note", TextType, nullable=False),
    Column("seal", KeyType),
    Index(None, "state", "expires_at"),
)
"""Each snapshot, stored before it is ordered. By its row it is deleted, so the row is sealed."""

provided_machines = Table(
    "provided_machines",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("provider", KeyType, primary_key=True),
    Column("address", TextType, nullable=False),
    Column("identity", TextType, nullable=False),
    Column("proven_at", UtcDateTime),
    Column("notes", TextType, nullable=False),
    Column("loss", TextType, nullable=False),
    Column("seal", KeyType),
)
"""Each machine at its provider. Orders to a provider are refused by its row, so the row is sealed."""
