"""The tables of maintenance control: groups of machines, what is held for each, and the runs that apply it."""

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text

from tasks.records.schema import metadata
from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

held_groups = Table(
    "held_groups",
    metadata,
    Column("group_name", KeyType, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("looked_at", UtcDateTime),
    Column("removed_at", UtcDateTime),
    Column("document", Text, nullable=False),
)
"""What is remembered of each group. ``number`` is that of its newest package; 0: it never had one.

``document`` is JSON: the configuration, the hold, and the machines of the last look.
"""

held_packages = Table(
    "held_packages",
    metadata,
    Column("group_name", KeyType, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first_seen", UtcDateTime, nullable=False, index=True),
    Column("applies_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("how", KeyType, nullable=False),
    Column("updates", LargeBinary, nullable=False),
    Column("seal", KeyType),
)
"""What is held for each group, as one. ``how`` is "" while it is held; ``updates`` are those of the last look.

Windows and looks apply a package by this row, so it is sealed. The other two tables only hold back.
"""

held_applications = Table(
    "held_applications",
    metadata,
    Column("key", KeyType, primary_key=True),
    Column("group_name", KeyType, nullable=False),
    Column("number", Integer, nullable=False),
    Column("cause", KeyType, nullable=False),
    Column("who", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("flow_run_id", KeyType, nullable=False),
    Column("run_id", KeyType, nullable=False),
    Column("refusal", TextType, nullable=False),
    Column("refused_at", UtcDateTime),
    Index(None, "group_name", "number"),
)
"""The runs that apply a package, each before it begins. ``until``: later it can't begin any more."""
