"""The tables of the records. A row has its object as a JSON document (see codec.py) and columns to search by.

Lists of updates are compressed in their own column (see encoding/row_encoding.py).

Runs, assessments, outcomes and the journal have no foreign keys to each other: an outcome or a journal entry can always
be stored, even if another row is missing. assessment_updates and update_results exist only for searches; they have
foreign keys and are deleted with their assessment or outcome.

``seal`` is a message authentication code (see seals.py).

New records get these tables. A change here takes a migration in migrations/versions/; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tasks.records.storage.column_types import KeyType, TextType, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

schema_version = Table(
    "fleetpatch_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="fleetpatch_version_pkc"),
)
"""Holds the schema revision, as Alembic reads it. The name identifies a fleetpatch database."""

RowNumber = BigInteger().with_variant(Integer(), "sqlite")
"""Row number. SQLite numbers rows automatically only in a column of exactly the type INTEGER."""

runs = Table(
    "runs",
    metadata,
    Column("id", KeyType, primary_key=True),
    Column("kind", KeyType, nullable=False),
    Column("state", KeyType, nullable=False, index=True),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("ended_at", UtcDateTime),
    Column("scope", TextType, nullable=False),
    Column("started_by", TextType, nullable=False),
    Column("flow_run_id", KeyType, nullable=False, index=True),
    Column("message", TextType, nullable=False),
    Column("document", Text, nullable=False),
    Column("seal", KeyType),
)

run_plans = Table(
    "run_plans",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("document", Text, nullable=False),
    Column("seal", KeyType),
)
"""A run's waves, hooks and notes."""

machine_plans = Table(
    "machine_plans",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("document", Text, nullable=False),
    Column("updates", LargeBinary, nullable=False),
    Column("seal", KeyType),
)

assessments = Table(
    "assessments",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("run_id", KeyType, nullable=False, index=True),
    Column("machine", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("known", Boolean, nullable=False),
    Column("compliance", KeyType, nullable=False),
    Column("urgent", Integer, nullable=False),
    Column("other", Integer, nullable=False),
    Column("reboot", KeyType, nullable=False),
    Column("os_id", KeyType, nullable=False),
    Column("os_version", KeyType, nullable=False),
    Column("error_kind", KeyType, nullable=False),
    Column("error_message", TextType, nullable=False),
    Column("document", Text, nullable=False),
    Column("updates", LargeBinary),
    Column("seal", KeyType),
    UniqueConstraint("machine", "at", "run_id"),
    Index(None, "machine", "known", "at"),
    sqlite_autoincrement=True,
)

assessment_updates = Table(
    "assessment_updates",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("assessment", RowNumber, ForeignKey("assessments.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("machine", KeyType, nullable=False, index=True),
    Column("update_id", KeyType, nullable=False),
    Column("name", KeyType, nullable=False, index=True),
    Column("arch", KeyType, nullable=False),
    Column("classification", KeyType, nullable=False),
    Column("severity", KeyType, nullable=False),
    Column("installed", TextType),
    Column("available", TextType, nullable=False),
    Column("kb", KeyType, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("blocked", TextType, nullable=False),
    Column("published", UtcDateTime),
    Column("title", TextType),
    Column("since", UtcDateTime),
)
"""Pending updates of each machine's newest assessment that has an answer. Older assessments have only documents.

``since`` is when an assessment first saw an update of this name pending (see machine_states.py).
"""

outcomes = Table(
    "outcomes",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("run_id", KeyType, nullable=False),
    Column("machine", KeyType, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("reboot", KeyType, nullable=False),
    Column("wave", Integer),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("window_exceeded_seconds", Float, nullable=False),
    Column("updates_installed", Integer, nullable=False),
    Column("updates_failed", Integer, nullable=False),
    Column("error_kind", KeyType, nullable=False),
    Column("document", Text, nullable=False),
    Column("counts", Text),
    Column("updates", LargeBinary),
    UniqueConstraint("run_id", "machine"),
    Index(None, "machine", "started_at"),
    sqlite_autoincrement=True,
)

update_results = Table(
    "update_results",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("outcome", RowNumber, ForeignKey("outcomes.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("run_id", KeyType, nullable=False),
    Column("machine", KeyType, nullable=False),
    Column("update_id", KeyType, nullable=False),
    Column("name", KeyType, nullable=False),
    Column("arch", KeyType, nullable=False),
    Column("classification", KeyType, nullable=False),
    Column("state", KeyType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("installed", TextType),
    Column("available", TextType, nullable=False),
    Column("version_after", TextType),
    Column("kb", KeyType, nullable=False),
    Index(None, "name", "machine", "number", "run_id", info={"takes_place_of": "ix_update_results_name"}),
)

journal = Table(
    "journal",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("run_id", KeyType, nullable=False),
    Column("machine", KeyType, nullable=False),
    Column("step", KeyType, nullable=False),
    Column("mark", KeyType, nullable=False),
    Column("act", KeyType, nullable=False),
    Column("key", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("document", Text, nullable=False),
    Column("digest", KeyType),
    Column("seal", KeyType),
    Index(None, "run_id", "machine", "number"),
    Index(None, "digest", unique=True),
    sqlite_autoincrement=True,
)
"""``digest`` is the digest of the document. With it, an entry that is sent again after a lost answer is stored once."""

job_outputs = Table(
    "job_outputs",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("job_id", KeyType, primary_key=True),
    Column("characters", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

measures = Table(
    "measures",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("measure", KeyType, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("value", Float, nullable=False),
    Index(None, "machine", "measure", "at"),
)
"""The measures of each run. The mean is computed on reading, so an outcome that is saved twice counts once."""

leases = Table(
    "leases",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("holder_id", KeyType, nullable=False),
    Column("host", TextType, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("username", TextType, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("given_back", Boolean, nullable=False),
)
"""The present or last holder of each run lease. A lease may exist before the row of its run."""

stop_requests = Table(
    "stop_requests",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("who", TextType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("run_id", KeyType, primary_key=True),
    Column("digest", KeyType, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("decision", KeyType, nullable=False, index=True),
    Column("who", TextType, nullable=False),
    Column("remark", TextType, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("seal", KeyType),
)
"""``decision`` is "" before the decision; ``digest`` is the digest of the plan that was shown."""

occurrences = Table(
    "occurrences",
    metadata,
    Column("configuration", KeyType, primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("run_id", KeyType, nullable=False, index=True),
    Column("what", KeyType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
"""The one run of a configuration's window, or why it has none: ``what`` is a ``WindowStatus``."""

retention = Table(
    "retention",
    metadata,
    Column("what", KeyType, primary_key=True),
    Column("days", Integer),
    Column("applied_at", UtcDateTime),
)
"""How many days history is kept. Without days, or without a row: forever.

``what`` is "assessments" (assessments, and runs that change no machine) or "runs" (all other runs).
"""

set_slots = Table(
    "set_slots",
    metadata,
    Column("set_name", KeyType, primary_key=True),
    Column("machine", KeyType, primary_key=True),
    Column("run_id", KeyType, nullable=False, index=True),
    Column("domain", KeyType, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("drained", Boolean, nullable=False),
)
"""Members of machine sets that are out of service, or may be. A row counts while its run is unfinished; that of a
drained member until it is brought back, also without its run.
"""

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", KeyType, primary_key=True),
    Column("state", KeyType, nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("document", Text, nullable=False),
    Column("updates", LargeBinary, nullable=False),
    Column("seal", KeyType),
)
"""Rollouts of automatic patching. ``updates`` is the frozen set of names and versions, compressed."""

decisions = Table(
    "decisions",
    metadata,
    Column("key_id", KeyType, primary_key=True),
    Column("number", RowNumber, primary_key=True, autoincrement=False),
    Column("previous", KeyType, nullable=False),
    Column("kind", KeyType, nullable=False),
    Column("subject", TextType, nullable=False),
    Column("decision", KeyType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("seal", KeyType, nullable=False),
)
"""What was decided for good, as one chain for each key. Rows are only added: see tasks/records/decisions.py."""

automatic_runs = Table(
    "automatic_runs",
    metadata,
    Column("key", KeyType, primary_key=True),
    Column("rollout_id", KeyType, nullable=False, index=True),
    Column("flow_run_id", KeyType, nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("document", Text, nullable=False),
)
"""The runs that automatic patching has started, or is about to start: then ``flow_run_id`` is ""."""

update_sightings = Table(
    "update_sightings",
    metadata,
    Column("name", KeyType, primary_key=True),
    Column("version", KeyType, primary_key=True),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("published", UtcDateTime),
)
"""When an update was first seen pending on any machine. Nothing writes or reads ``published`` any more."""

missing_fixes = Table(
    "missing_fixes",
    metadata,
    Column("machine", KeyType, primary_key=True),
    Column("name", KeyType, primary_key=True),
    Column("since", UtcDateTime, nullable=False),
)
"""Since when a machine lacks a fix of an update of this name. A newer version of the update does not change it."""

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("scope", TextType, nullable=False),
    Column("digest", KeyType, primary_key=True),
    Column("who", TextType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
)
"""Scopes that people have taken out of automatic patching. ``digest`` is the digest of the scope."""

held_updates = Table(
    "held_updates",
    metadata,
    Column("name", KeyType, primary_key=True),
    Column("version", KeyType, primary_key=True),
    Column("rollout_id", KeyType, nullable=False),
    Column("reason", TextType, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("released_by", TextType, nullable=False),
    Column("released_at", UtcDateTime),
)

announcements = Table(
    "announcements",
    metadata,
    Column("key", KeyType, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("message", TextType, nullable=False),
)
"""What automatic patching has told people. Each is told once."""
