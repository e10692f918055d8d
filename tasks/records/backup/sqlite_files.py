"""Copies and checks the SQLite file of records, and puts another content into it.

That is done in one transaction, and only if nobody has it open.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from inventory.editing.file_replacement import sync_folder
from tasks.domain.errors import RecordsError
from tasks.records.backup.archive import publish_file
from tasks.records.storage.database import LOCK_TIMEOUT_SECONDS, Database

_SIDE_FILES = ("-wal", "-shm", "-journal")


def replace_sqlite_file(path: Path, content: Path, kept_path: Path, *, is_sound: bool) -> Path | None:
    """Put a copy in the place of the records. Return where the replaced records are; None if there were none.

    The file stays the same one. So a program that waits for it gets the new content, and never goes on in the old one.

    Args:
        path: the records.
        content: a complete database, on the same disk.
        kept_path: gets what is replaced.
        is_sound: whether the present file can be read; otherwise it is moved away.

    Raises:
        RecordsError: another program has the records open, or they can't be written. Nothing was changed then.
    """
    try:
        if not path.exists() or not is_sound:
            is_there = path.exists()
            if is_there:
                path.rename(kept_path)
            for end in _SIDE_FILES:  # what belongs to the file that is gone must not be read into the new one
                with suppress(FileNotFoundError):
                    path.with_name(path.name + end).rename(kept_path.with_name(kept_path.name + end))
            _sync_file(content)
            publish_file(content, path, overwrite=False)
            return kept_path if is_there else None
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as target:
            _lock_out_others(target, path)
            partial = content.with_name("kept")
            partial.touch(mode=0o600, exist_ok=False)
            with closing(sqlite3.connect(partial)) as copy:
                target.backup(copy)
            _sync_file(partial)
            publish_file(partial, kept_path, overwrite=False)
            with closing(sqlite3.connect(content)) as source:
                source.backup(target)
    except (sqlite3.Error, OSError) as error:
        raise RecordsError(
            f"can't replace {path}: {error}", hint="Look at the room on that disk. The records are as they were."
        ) from error
    return kept_path


def _lock_out_others(target: sqlite3.Connection, path: Path) -> None:
    """Take the file for this connection alone. SQLite leaves its WAL mode only if no other program has it open.

    Raises:
        RecordsError: another program has it open.
    """
    try:
        target.execute("PRAGMA synchronous = FULL")
        target.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_alone = target.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete"
        target.execute("BEGIN EXCLUSIVE")
        target.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        is_alone = False
    if not is_alone:
        raise RecordsError(
            f"another program has {path} open", hint="End workers, pages, timers and commands of this fleet first."
        )


def _sync_file(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    sync_folder(path.parent)


@contextmanager
def open_kept_file(path: Path) -> Iterator[Connection]:
    """Give a connection to replaced records."""
    database = Database(URL.create("sqlite", database=str(path)))
    try:
        with database.begin_read("read the replaced records") as connection:
            yield connection
    finally:
        database.close()


def copy_sqlite_file(source: Path, target: Path) -> None:
    """Copy an SQLite database while others write, and check the copy. It is one file, without a journal beside it.

    One step of SQLite's backup reads one state of the database. A plain copy of the file lacks what is in its journal.

    Raises:
        RecordsError: it can't be read or written, or it is damaged.
    """
    try:
        target.touch(mode=0o600, exist_ok=False)
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_TIMEOUT_SECONDS)
            ) as read,
            closing(sqlite3.connect(target, isolation_level=None)) as written,
        ):
            read.backup(written)
            written.execute("PRAGMA journal_mode = DELETE")
        check_sqlite_file(target)
    except (sqlite3.Error, OSError) as error:
        raise RecordsError(
            f"can't copy {source}: {error}", hint="Look at the room on the disk, and whether the file is damaged."
        ) from error


def check_sqlite_file(path: Path) -> None:
    """Check that every page of an SQLite database is whole. Raise RecordsError if it is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            answers = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as error:
        answers = [str(error)]
    if answers != ["ok"]:
        raise RecordsError(
            f"{path.name} is damaged: {'; '.join(answers)[:300]}",
            hint="Keep the file. Restore an earlier backup: fleetpatch records restore FILE (docs/how-to/backup.md).",
        )
