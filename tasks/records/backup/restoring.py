"""Puts a backup in place of the records of one fleet, if nobody has these open. What it replaces stays beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, text

from inventory.data_class import dataclass
from inventory.files.paths import ensure_private_directory
from tasks.domain.errors import RecordsError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.records import page_schema
from tasks.records.backup.archive import make_private_folder, read_backup
from tasks.records.backup.carrying import Carried, carry_chains
from tasks.records.backup.manifest import BackupManifest, RecordsFacts, find_newer_runs, read_facts
from tasks.records.backup.postgres_tools import read_schema_name, require_restoring_tool, restore_schema
from tasks.records.backup.sqlite_files import check_sqlite_file, open_kept_file, replace_sqlite_file
from tasks.records.fleets import REPLACED_PREFIX, build_slug, find_fleet
from tasks.records.pages_role import grant_pages_role
from tasks.records.setup import ensure_schema, find_newest_revision, open_records
from tasks.records.storage.database import APPLICATION_NAME, Database
from tasks.records.storage.url import find_records_url

_CLOSING_SECONDS: Final = 2.0
_SESSIONS: Final = text(
    """
    SELECT pid, usename, application_name, host(client_addr) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND coalesce(backend_type, 'client backend') = 'client backend'
      ORDER BY pid
    """
)


def find_sessions(database: Database) -> tuple[str, ...]:
    """Return who has the records of a fleet open, in words. Of a file, only programs that this user may see.

    A session that was closed just now is still there for a moment on PostgreSQL. So it is looked for again.
    """
    if database.is_sqlite:
        return _find_processes(Path(str(database.url.database)))
    clock = SystemClock()
    deadline = Deadline.after(clock, _CLOSING_SECONDS)
    while (sessions := _read_sessions(database)) and deadline.remaining_seconds(clock) > 0:
        clock.sleep(0.1)
    return sessions


def _read_sessions(database: Database) -> tuple[str, ...]:
    own = f"{APPLICATION_NAME} {build_slug(database.fleet)}"
    rows = database.read_rows("look for other sessions", _SESSIONS)
    return tuple(
        f"{name or 'a session'} of {user}{f' at {address}' if address else ''} (server process {pid})"
        for pid, user, name, address in rows
        if name == own or not str(name or "").startswith(f"{APPLICATION_NAME} ")
    )


def _find_processes(path: Path) -> tuple[str, ...]:
    real_paths = {os.path.realpath(path) + end for end in ("", "-wal", "-shm")}
    sessions = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):
            if any(_read_link(link) in real_paths for link in (process / "fd").iterdir()):
                parts = (process / "cmdline").read_bytes().split(b"\0")
                command = " ".join(word.decode(errors="replace") for word in parts if word)
                sessions.append(f"process {process.name} ({command[:100] or 'of no name'})")
    return tuple(sessions)


def _read_link(path: Path) -> str:
    with suppress(OSError):
        return str(path.readlink())
    return ""


_MAX_NAME = 63


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restoration would do. Nothing was changed yet."""

    path: Path  # the backup
    place: str  # the records that it would replace, for messages
    backup: BackupManifest  # what the backup says of itself
    present: RecordsFacts | None  # what is in these records; None: there are none, or they can't be read
    fault: str  # why they can't be read; "" if they can, or if there are none
    sessions: tuple[str, ...]  # who has them open
    newer_runs: tuple[str, ...]  # the runs that the backup does not have

    @property
    def reopened_runs(self) -> tuple[str, ...]:
        """The runs that were in progress at the time of the backup, and have ended since."""
        newest_runs = self.present.newest_runs if self.present is not None else {}
        unfinished = self.present.unfinished if self.present is not None else {}
        return tuple(run for run in self.backup.records.unfinished if run in newest_runs and run not in unfinished)

    @property
    def lost_machines(self) -> tuple[str, ...]:
        """The machines on which runs work that the backup does not know."""
        unfinished = self.present.unfinished if self.present is not None else {}
        names = {name for run in self.newer_runs for name in unfinished.get(run, ())}
        return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restoration has done."""

    kept: str  # where the replaced records are; "": there were none
    carried: Carried  # what of them was put behind the restored chains
    ended_logins: int  # how many logins of browsers were ended


def plan_restore(url: str | None, path: Path) -> RestorePlan:
    """Return what a restoration would do. Refuse a backup that can't be restored here.

    ``url``: the records to replace; None: as ``open_records`` finds them.

    Raises:
        RecordsError: the backup is damaged, or it is of another fleet, of another kind of database, or of a newer
            fleetpatch; or the database can't be reached.
    """
    database = Database(find_records_url(url), find_fleet())
    try:
        backup = read_backup(path)
        _require_fitting(backup, database, path)
        present, fault = _read_present(database, backup)
        sessions = () if fault and not database.is_sqlite else find_sessions(database)
    finally:
        database.close()
    newer = find_newer_runs(present, backup.records) if present is not None else ()
    return RestorePlan(path, database.display_name, backup, present, fault, sessions, newer)


def require_restorable(plan: RestorePlan, *, abandon_runs: bool, replace_unreadable: bool) -> None:
    """Raise an error if the restoration would take records away from under a program or a run.

    ``abandon_runs``: whether runs without a live process may be in progress.
    ``replace_unreadable``: whether records that can't be read may be replaced.

    Raises:
        RecordsError: it must not begin.
    """
    if plan.sessions:
        raise RecordsError(
            f"the records are open: {'; '.join(plan.sessions[:5])}",
            hint="End workers, pages, timers and commands of this fleet first (docs/how-to/backup.md).",
        )
    if plan.present is not None and plan.present.held_leases:
        raise RecordsError(
            f"a process executes run {plan.present.held_leases[0]}",
            hint="Wait for its end, or ask it to stop: fleetpatch cancel. After a killed process: a minute later.",
        )
    if plan.present is not None and plan.present.unfinished and not abandon_runs:
        raise RecordsError(
            f"run {next(iter(plan.present.unfinished))} is in progress, and no process executes it",
            hint="End it first: fleetpatch reconcile, or fleetpatch resume RUN --finalize. Or add --abandon-runs.",
        )
    if plan.fault and not replace_unreadable:
        raise RecordsError(
            f"the present records can't be read, so nobody can tell what would be lost: {plan.fault}",
            hint="They are kept beside the restored ones. If that is meant, add --replace-unreadable.",
        )


def restore_records(url: str | None, plan: RestorePlan, now: datetime) -> Restored:
    """Replace the records of this process's fleet by a backup, as planned. ``require_restorable`` is to come before.

    ``url``: the records to replace; None: as ``open_records`` finds them.

    Raises:
        RecordsError: the records are in use, or can't be written. They are as they were, or the error says where.
    """
    database = Database(find_records_url(url), find_fleet())
    suffix = f"{now:%Y%m%dT%H%M%SZ}"
    try:
        if find_sessions(database) or read_backup(plan.path) != plan.backup:
            raise RecordsError(
                "the backup was replaced, or another program has opened the records", hint="Begin again."
            )
        if database.is_sqlite:
            earlier_copy = _replace_file(database, plan, suffix)
            with _open_file(None if plan.fault else earlier_copy) as old:
                return _complete(url, earlier_copy, old, None)
        schema = _replace_tables(database, plan, suffix)
        with database.begin_read("read the replaced records") as old:
            return _complete(url, schema, old if schema else None, schema)
    finally:
        database.close()


def _require_fitting(backup: BackupManifest, database: Database, path: Path) -> None:
    kind = "sqlite" if database.is_sqlite else "postgresql"
    if backup.database != kind:
        raise RecordsError(
            f"the backup is of {backup.database}, and {database.display_name} is {kind}",
            hint="Restore it into a database of its kind: name that with --records.",
        )
    if backup.records.fleet != database.fleet:
        raise RecordsError(
            f"the backup is of the fleet {backup.records.fleet}, and this is the fleet {database.fleet}",
            hint=f"Set FLEETPATCH_FLEET={backup.records.fleet}.",
        )
    newest = find_newest_revision()
    if backup.records.revision > newest:
        raise RecordsError(
            f"the backup is of a newer fleetpatch ({backup.version}): its tables are at revision "
            f"{backup.records.revision}, and this one knows up to {newest}",
            hint="Install that version first.",
        )
    if not database.is_sqlite:
        require_restoring_tool(database.url, path)


def _read_present(database: Database, backup: BackupManifest) -> tuple[RecordsFacts | None, str]:
    """Return what is in the records; or None, and why they can't be read, or "" if there are none.

    Raises:
        RecordsError: the database belongs to something else.
    """
    if database.is_sqlite and not Path(str(database.url.database)).exists():
        return None, ""
    try:
        with database.begin_read("read the present records") as connection:
            schema = None if database.is_sqlite else connection.execute(text("SELECT current_schema()")).scalar()
            if not database.is_sqlite and schema is None:
                return None, ""
            facts = read_facts(connection)
    except RecordsError as error:
        if error.transient:
            raise
        return None, error.message
    if schema is not None and schema != backup.schema_name:
        raise RecordsError(
            f"the backup is of the schema {backup.schema_name}, and this is {schema}",
            hint="Name the database with the same search path.",
        )
    if facts.revision and facts.fleet != database.fleet:
        fault = f"{database.display_name} has the records of the fleet {facts.fleet}: they are not replaced"
        raise RecordsError(fault, hint="Set FLEETPATCH_FLEET.")
    if not facts.revision and facts.rows:
        raise RecordsError(
            f"{database.display_name} isn't a fleetpatch database: it contains {', '.join(list(facts.rows)[:3])}",
            hint="Name another one with --records.",
        )
    return (facts if facts.revision else None), ""


def _replace_file(database: Database, plan: RestorePlan, suffix: str) -> Path | None:
    path = Path(str(database.url.database))
    ensure_private_directory(path.parent)
    with make_private_folder(path) as work:
        content = work / "records.db"
        read_backup(plan.path, content)
        check_sqlite_file(content)
        database.close()  # its connections have the file open
        return replace_sqlite_file(
            path, content, path.with_name(f"{path.name}.replaced-{suffix}"), is_sound=not plan.fault
        )


@contextmanager
def _open_file(kept_file: Path | None) -> Iterator[Connection | None]:
    if kept_file is None:
        yield None
        return
    with open_kept_file(kept_file) as connection:
        yield connection


def _replace_tables(database: Database, plan: RestorePlan, suffix: str) -> str:
    """Move the tables into a schema of their own, and restore those of the backup. Return its name; "": none."""
    earlier_schema = ""
    with database.begin_write("put the present records aside") as connection:
        ensure_schema(connection, database)
        schema = read_schema_name(connection)
        if _list_tables(connection, schema):
            earlier_schema = f"{REPLACED_PREFIX}{suffix.lower()}_{schema}"[:_MAX_NAME]
            connection.exec_driver_sql(f'CREATE SCHEMA "{earlier_schema}"')
            _move_tables(connection, schema, earlier_schema)
    try:
        with make_private_folder(plan.path) as work:
            read_backup(plan.path, work / "records.dump")
            restore_schema(database, schema, work / "records.dump", work)
    except BaseException:
        if earlier_schema:
            with database.begin_write("put the present records back") as connection:
                _move_tables(connection, earlier_schema, schema)
                connection.exec_driver_sql(f'DROP SCHEMA "{earlier_schema}"')
        raise
    return earlier_schema


def _list_tables(connection: Connection, schema: str) -> list[str]:
    query = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema ORDER BY tablename")
    return list(connection.execute(query, {"schema": schema}).scalars())


def _move_tables(connection: Connection, source: str, target: str) -> None:
    for name in _list_tables(connection, source):
        connection.exec_driver_sql(f'ALTER TABLE "{source}"."{name}" SET SCHEMA "{target}"')


def _complete(
    url: str | None, earlier_place: Path | str | None, old: Connection | None, schema: str | None
) -> Restored:
    """Migrate what was restored, put newer decisions behind it, and end the logins of browsers."""
    with open_records(url) as records, records.database.begin_write("complete the restored records") as new:
        if not records.database.is_sqlite:
            grant_pages_role(new)
        carried = carry_chains(old, new, schema) if old is not None else Carried()
        # some sessions and links of the pages had ended after the backup
        ended = (new.execute(delete(table)).rowcount for table in (page_schema.web_sessions, page_schema.login_links))
        return Restored(str(earlier_place or ""), carried, sum(ended))
