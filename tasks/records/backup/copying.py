"""Copies the records of one fleet into an empty database of any kind: from a file to PostgreSQL, or back.

Seals cover values and not their storage, so they fit in the copy too. The copy is compared with its source, value by
value, before it is committed.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, Table, delete, func, insert, select

from inventory.data_class import dataclass
from tasks.domain.errors import RecordsError
from tasks.records import schema
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import describe_verification, verify_log
from tasks.records.backup.making import read_source_facts
from tasks.records.backup.restoring import find_sessions
from tasks.records.fleets import find_fleet
from tasks.records.queries.other_fleets import fleet_stamp
from tasks.records.setup import find_newest_revision, open_records
from tasks.records.storage.database import Database
from tasks.records.storage.url import find_records_url

_BATCH: Final = 1000
_IN_PARTS: Final = {"yield_per": _BATCH}
_OWN_ROWS: Final = frozenset({schema.retention.name, fleet_stamp.name})
"""Tables that have rows in new records."""


@dataclass(frozen=True, slots=True)
class CopiedRecords:
    """What was copied."""

    source: str  # the records, for messages
    target: str  # the copy, for messages
    rows: Mapping[str, int]  # how many rows of each table
    audit_log: str  # the state of the audit log in the copy: "intact", or the reason why not


def copy_records(url: str | None, target_url: str) -> CopiedRecords:
    """Copy the records of this process's fleet into a database without records of it.

    The source stays as it is. Nobody may use it meanwhile: what is written there later is not in the copy.

    Args:
        url: the records; None: as ``open_records`` finds them.
        target_url: the database of the copy. Its tables are made.

    Raises:
        RecordsError: the records are in use, of another version, or can't be read; or the target has records, or can't
            be written. The target has no rows of the source then.
    """
    fleet = find_fleet()
    source = Database(find_records_url(url), fleet)
    try:
        if find_records_url(target_url) == source.shared_url:
            raise RecordsError("the records and the copy are the same database", hint="Name another one for the copy.")
        _require_unused(source)
        with open_records(target_url) as opened:
            target = opened.database
            with source.begin_read("copy the records") as old, target.begin_write("copy the records") as new:
                rows = _copy_tables(old, new, target)
            audit_log = describe_verification(verify_log(SqlAuditLog(target), SqlAuditLog(source).read_head()))
            return CopiedRecords(source.display_name, target.display_name, rows, audit_log)
    finally:
        source.close()


def _require_unused(source: Database) -> None:
    with source.begin_read("look at the records") as connection:
        facts = read_source_facts(connection, source)
    if facts.revision != find_newest_revision():
        hint = "Open them once with this version, for example `fleetpatch runs`. That migrates them."
        raise RecordsError(f"{source.display_name} is of another version (revision {facts.revision})", hint=hint)
    if facts.held_leases:
        hint = "Wait for its end, or ask it to stop: fleetpatch cancel. After a killed process: a minute later."
        raise RecordsError(f"a process executes run {facts.held_leases[0]}", hint=hint)
    if sessions := find_sessions(source):
        hint = "End workers, pages, timers and commands of this fleet first: what they write later would be lost."
        raise RecordsError(f"the records are open: {'; '.join(sessions[:5])}", hint=hint)


def _copy_tables(old: Connection, new: Connection, target: Database) -> dict[str, int]:
    tables = [table for table in schema.metadata.sorted_tables if table.name != fleet_stamp.name]
    for table in tables:
        count = new.execute(select(func.count()).select_from(table)).scalar_one()
        if count and table.name not in _OWN_ROWS:
            hint = "Name a database without records of this fleet."
            raise RecordsError(f"{target.display_name} has records: {count} rows in {table.name}", hint=hint)
    rows = {}
    for table in tables:
        new.execute(delete(table))
        for part in old.execute(select(table), execution_options=_IN_PARTS).mappings().partitions(_BATCH):
            new.execute(insert(table), [dict(row) for row in part])
        rows[table.name], digest = _digest_rows(old, table)
        if (rows[table.name], digest) != _digest_rows(new, table):
            fault = f"the table {table.name} is not the same in {target.display_name}"
            raise RecordsError(fault, hint="Nothing was kept there. Report this as a fault of fleetpatch.")
        _set_sequence(new, table)
    return rows


def _digest_rows(connection: Connection, table: Table) -> tuple[int, int]:
    """Return the number of rows, and a digest that does not depend on their order: each database sorts otherwise."""
    count = total = 0
    for row in connection.execute(select(table), execution_options=_IN_PARTS):
        count += 1
        text = "\0".join(f"{type(value).__name__}:{value!r}" for value in row)
        total ^= int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return count, total


def _set_sequence(new: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows after the copied ones. SQLite does so by itself."""
    column = table.autoincrement_column
    if new.dialect.name != "postgresql" or column is None:
        return
    last = new.execute(select(func.max(column))).scalar()
    if last is not None:
        new.execute(select(func.setval(func.pg_get_serial_sequence(table.name, column.name), last)))
