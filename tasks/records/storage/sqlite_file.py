"""Creates and checks the SQLite file of the records, and backs it up before a migration."""

import errno
import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from inventory.files.paths import build_storage_error, ensure_private_directory, find_storage_fault
from tasks.domain.errors import RecordsError

_FILE_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


RECORDS_ALTERNATIVE = "point FLEETPATCH_RECORDS_URL at another disk"
_ERRNO_HINTS = {
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.ENOTDIR: "A part of this path is a file: correct it.",
    errno.EEXIST: "A part of this path is a file: correct it.",
}


def ensure_sqlite_file(path: Path) -> None:
    """Create the file (mode 0600) or check an existing one. Only the owner may read it: data may be confidential.

    Raises:
        RecordsError: the file cannot be used.
    """
    try:
        ensure_private_directory(path.parent)
        if path.exists():
            _require_usable_file(path)
        else:
            with suppress(FileExistsError):  # another process created it
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600))
    except OSError as error:
        number = error.errno or errno.EIO
        if fault := find_storage_fault(path, number=number, alternative=RECORDS_ALTERNATIVE):
            raise build_storage_error(RecordsError, f"can't use {path} for the records", fault) from error
        hint = _ERRNO_HINTS.get(
            error.errno or 0, "Let this user write there, or point FLEETPATCH_RECORDS_URL elsewhere."
        )
        raise RecordsError(f"can't use {path} for the records: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL
        raise RecordsError(f"can't use {str(path)!r} for the records: {error}", hint="Correct that path.") from error


def _require_usable_file(path: Path) -> None:
    """Check that a file can be used, without opening it.

    To close a file drops all POSIX locks of this process on it. Another connection of this process would continue
    without its lock, and a second process could delete its journal (https://www.sqlite.org/howtocorrupt.html,
    section 2.2).
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise RecordsError(
            f"{path} can't be the records file: it is {_FILE_KINDS.get(kind, 'no file')}",
            hint="Name a file on a local disk: sqlite:////var/lib/fleetpatch/records.db (four slashes).",
        )
    if not os.access(path, os.R_OK | os.W_OK):
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number))


def back_up_sqlite_file(path: Path, revision: str) -> None:
    """Copy the file to ``<name>.<revision>.bak``. The caller holds the write lock, so nothing changes meanwhile.

    Raises:
        RecordsError: the copy failed.
    """
    backup = path.with_name(f"{path.name}.{revision}.bak")
    partial = backup.with_name(f"{backup.name}.part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        partial.replace(backup)
    except (OSError, sqlite3.Error) as error:
        if fault := find_storage_fault(backup, number=getattr(error, "errno", 0) or 0):
            message = f"can't copy {path} to {backup} before migrating it, and nothing was changed"
            raise build_storage_error(RecordsError, message, fault) from error
        raise RecordsError(
            f"can't copy {path} to {backup} before migrating it: {error}",
            hint="Make room on that disk and let this user write the folder; nothing was changed.",
        ) from error
