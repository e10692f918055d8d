"""What a backup says of itself, and what is read of records to write it: rows, runs, the end of the audit log."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, func, inspect, select, table

from tasks.records import schema
from tasks.records.audit.seals_and_heads import NUMBER_LIMIT
from tasks.records.fleets import DEFAULT_FLEET
from tasks.records.page_schema import audit_log, run_progress
from tasks.records.queries.other_fleets import fleet_stamp
from tasks.records.schema import schema_version
from tasks.records.statements import UNFINISHED_STATES, read_shared_time

NAMED_RUNS: Final = 2000
"""So many of the newest runs are named: what is newer than a backup can be told without opening it."""


class RecordsFacts(BaseModel):
    """What is known of records at one moment.

    Attributes:
        fleet: the fleet in their stamp.
        revision: the revision of their tables; "" for records that are no fleetpatch's.
        rows: how many rows each table has.
        newest_runs: when each of the newest runs began, newest first.
        unfinished: the runs that have not ended, and the machines that each works on.
        held_leases: the runs that a process executes now.
        audit_end: the number and the seal of the newest entry of the audit log, as NUMBER:SEAL; "" for none.
    """

    model_config = ConfigDict(frozen=True)

    fleet: str
    revision: str
    rows: Mapping[str, int]
    newest_runs: Mapping[str, AwareDatetime] = {}
    unfinished: Mapping[str, tuple[str, ...]] = {}
    held_leases: tuple[str, ...] = ()
    audit_end: str = ""


class BackupManifest(BaseModel):
    """The first member of a backup.

    Attributes:
        version: the fleetpatch that made it.
        made_at: when it began: what was stored before is in it.
        database: the kind of database.
        source: the records that were backed up, without a password.
        schema_name: the schema in PostgreSQL; "" on SQLite.
        records: what is in it.
        content_bytes: the size of the copy, or of the dump.
        content_sha256: its digest.
        audit_log: the state of the audit log when it was checked, with the reason if it is not "intact".
        decisions: the same of the chain of decisions.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    version: str
    made_at: AwareDatetime
    database: Literal["sqlite", "postgresql"]
    source: str
    schema_name: str = ""
    records: RecordsFacts
    content_bytes: int = Field(ge=0)
    content_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    audit_log: str
    decisions: str


def read_facts(connection: Connection) -> RecordsFacts:
    """Return what is known of the records of a connection. Tables of another version are counted too."""
    names = sorted(inspect(connection).get_table_names())
    if schema_version.name not in names:
        return RecordsFacts(fleet=DEFAULT_FLEET, revision="", rows=_count_rows(connection, names))
    runs = schema.runs.c
    query = select(runs.id, runs.started_at).order_by(runs.started_at.desc(), runs.id).limit(NAMED_RUNS)
    return RecordsFacts(
        fleet=(connection.execute(select(fleet_stamp.c.fleet)).scalar() if fleet_stamp.name in names else None)
        or DEFAULT_FLEET,
        revision=connection.execute(select(schema_version)).scalar() or "",
        rows=_count_rows(connection, names),
        newest_runs=dict(connection.execute(query).tuples().all()),
        unfinished=_read_unfinished(connection, has_progress=run_progress.name in names),
        held_leases=_read_held_leases(connection),
        audit_end=_read_audit_end(connection) if audit_log.name in names else "",
    )


def _count_rows(connection: Connection, names: list[str]) -> dict[str, int]:
    return {
        name: connection.execute(select(func.count()).select_from(table(name))).scalar_one()
        for name in names
        if not name.startswith("sqlite_")
    }


def _read_unfinished(connection: Connection, *, has_progress: bool) -> dict[str, tuple[str, ...]]:
    runs, progress = schema.runs.c, run_progress.c
    query = select(runs.id).where(runs.state.in_(UNFINISHED_STATES)).order_by(runs.started_at)
    machines: dict[str, list[str]] = {run: [] for run in connection.execute(query).scalars()}
    if has_progress:
        at_work = select(progress.run_id, progress.machine).order_by(progress.machine)
        for run, machine in connection.execute(at_work).tuples():
            if run in machines:
                machines[run].append(machine)
    return {run: tuple(names) for run, names in machines.items()}


def _read_held_leases(connection: Connection) -> tuple[str, ...]:
    leases = schema.leases.c
    now = read_shared_time(connection, None)
    query = select(leases.run_id).where(leases.until > now, ~leases.given_back).order_by(leases.run_id)
    return tuple(connection.execute(query).scalars())


def _read_audit_end(connection: Connection) -> str:
    entries = audit_log.c
    query = select(entries.number, entries.seal).where(entries.number < NUMBER_LIMIT)
    row = connection.execute(query.order_by(entries.number.desc()).limit(1)).one_or_none()
    return f"{row.number}:{row.seal}" if row is not None else ""


def find_newer_runs(records: RecordsFacts, backup: RecordsFacts) -> tuple[str, ...]:
    """Return the runs of records that a backup of them does not have, newest first. Pure."""
    newest_runs = backup.newest_runs
    oldest = (
        min(newest_runs.values()) if len(newest_runs) >= NAMED_RUNS else None
    )  # there may be older ones that are not named
    newest = records.newest_runs.items()
    return tuple(run for run, at in newest if run not in newest_runs and (oldest is None or at >= oldest))
