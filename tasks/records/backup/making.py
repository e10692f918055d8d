"""Backs up the records of one fleet while others write: what was stored before it began is in it, and consistent."""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from tasks.domain.errors import RecordsError
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.seals_and_heads import AuditHead
from tasks.records.audit.verification import AuditState, describe_verification, verify_log
from tasks.records.backup.archive import (
    build_taken_error,
    compute_digest,
    make_private_folder,
    publish_file,
    read_backup,
    write_backup,
)
from tasks.records.backup.manifest import BackupManifest, RecordsFacts, read_facts
from tasks.records.backup.postgres_tools import dump_schema, read_schema_name
from tasks.records.backup.sqlite_files import copy_sqlite_file
from tasks.records.decisions import SqlDecisions
from tasks.records.fleets import build_file_path, find_fleet
from tasks.records.setup import find_newest_revision
from tasks.records.storage.database import Database
from tasks.records.storage.url import find_records_url

WHOLE: Final = "intact"
NOT_CHECKED: Final = "not checked"
SOUND_STATES: Final = frozenset({WHOLE, AuditState.EMPTY.value})
"""What a check says of a chain that is as it should be."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where the chains must reach at least. It is read before the copy: others add entries meanwhile."""

    audit: AuditHead | None
    decisions: Mapping[str, AuditHead | None]
    fault: str = ""


def back_up_records(url: str | None, path: Path, now: datetime, *, overwrite: bool = False) -> BackupManifest:
    """Write a backup of the records of this process's fleet. The records are not migrated, and nobody is held up.

    Args:
        url: the database; None: as ``open_records`` finds it.
        path: the file of the backup. It gets the mode 0600, and its name only when it is complete and checked.
        now: the present time.
        overwrite: whether an earlier backup of that name may be replaced. Another file never is.

    Raises:
        RecordsError: there are no records, they are damaged, a program of PostgreSQL is missing, or the file can't be
            written.
    """
    require_free_name(path, overwrite=overwrite)
    database = Database(find_records_url(url), find_fleet())
    try:
        with make_private_folder(path) as work:
            manifest, content = (_copy_file if database.is_sqlite else _dump)(database, work, now)
            try:
                write_backup(work / "backup", manifest, content)
                publish_file(work / "backup", path, overwrite=overwrite)
            except OSError as error:
                fault = f"can't write {path}: {error.strerror or error}"
                raise RecordsError(fault, hint="Look at the room on that disk.") from error
    finally:
        database.close()
    return manifest


def require_free_name(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that is taken by something else than an earlier backup.

    Raises:
        RecordsError: it is taken, or its folder is none.
    """
    if not path.parent.is_dir():
        raise RecordsError(f"there is no folder {path.parent}", hint="Make it, or name a file elsewhere.")
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise build_taken_error(path)
    read_backup(path)


def _copy_file(database: Database, work: Path, now: datetime) -> tuple[BackupManifest, Path]:
    source = Path(str(database.url.database))
    if not source.exists():
        raise RecordsError(
            f"there are no records at {source}",
            hint="Name them with --records or FLEETPATCH_RECORDS_URL, the fleet with FLEETPATCH_FLEET.",
        )
    ends = _read_ends(database)
    shared = work / "records.db"
    content = build_file_path(shared, database.fleet)
    copy_sqlite_file(source, content)
    copy = Database(URL.create("sqlite", database=str(shared)), database.fleet)
    try:
        with copy.begin_read("check the copy") as connection:
            facts = read_source_facts(connection, database)
        audit_log, decisions = _check_chains(copy, facts, ends)
    finally:
        copy.close()
    return _build_manifest(database, "sqlite", "", facts, now, content, (audit_log, decisions)), content


def _dump(database: Database, work: Path, now: datetime) -> tuple[BackupManifest, Path]:
    ends = _read_ends(database)
    content = work / "records.dump"
    with database.begin_read("back up the records") as connection:
        facts = read_source_facts(connection, database)
        schema = read_schema_name(connection)
        checked = _check_chains(database, facts, ends)
        snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        dump_schema(database, schema, snapshot, content)
    return _build_manifest(database, "postgresql", schema, facts, now, content, checked), content


def read_source_facts(connection: Connection, database: Database) -> RecordsFacts:
    """Return what is known of the records of a database.

    Raises:
        RecordsError: it has none of fleetpatch, or those of another fleet.
    """
    facts = read_facts(connection)
    if not facts.revision:
        raise RecordsError(
            f"{database.display_name} has no records of fleetpatch",
            hint="Name them with --records, and the fleet with FLEETPATCH_FLEET.",
        )
    if facts.fleet != database.fleet:
        fault = f"{database.display_name} has the records of the fleet {facts.fleet}, and not those of {database.fleet}"
        raise RecordsError(fault, hint="Set FLEETPATCH_FLEET.")
    return facts


def _build_manifest(
    database: Database,
    kind: Literal["sqlite", "postgresql"],
    schema: str,
    facts: RecordsFacts,
    now: datetime,
    content: Path,
    checked: tuple[str, str],
) -> BackupManifest:
    return BackupManifest(
        version=version("fleetpatch"),
        made_at=now,
        database=kind,
        source=database.display_name,
        schema_name=schema,
        records=facts,
        content_bytes=content.stat().st_size,
        content_sha256=compute_digest(content),
        audit_log=checked[0],
        decisions=checked[1],
    )


def _read_ends(database: Database) -> _Ends:
    try:
        return _Ends(SqlAuditLog(database).read_head(), SqlDecisions(database).read_heads())
    except FleetpatchError as error:  # a person without the keys may back up too
        return _Ends(None, {}, error.message)


def _check_chains(database: Database, facts: RecordsFacts, ends: _Ends) -> tuple[str, str]:
    """Return what the audit log and the chain of decisions are: a word, and the reason if it is not "intact"."""
    if facts.revision != find_newest_revision():
        fault = f"{NOT_CHECKED}: the tables are of another version (revision {facts.revision})"
        return fault, fault
    if ends.fault:
        return f"{NOT_CHECKED}: {ends.fault}", f"{NOT_CHECKED}: {ends.fault}"
    verification = verify_log(SqlAuditLog(database), ends.audit)
    return describe_verification(verification), _check_decisions(database, facts, ends)


def _check_decisions(database: Database, facts: RecordsFacts, ends: _Ends) -> str:
    if not ends.decisions:
        is_empty = not facts.rows.get("decisions")
        return AuditState.EMPTY.value if is_empty else f"{NOT_CHECKED}: the key is not here (decisions)"
    try:
        length = SqlDecisions(database).check(ends.decisions)
    except FleetpatchError as error:
        return f"broken: {error.message}"
    return WHOLE if length else AuditState.EMPTY.value
