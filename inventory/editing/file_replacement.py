"""Replaces a file as a whole, if it still is what somebody has read: no reader sees a half, and no change is lost.

Two processes of fleetpatch take turns by a lock of the file itself, so the second one finds the text of the first and
changes nothing. An editor takes no such lock: what it saves in the moment between the comparison and the replacement
(microseconds) is lost, as between two editors.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inventory.errors import InventoryError
from inventory.files.file_trust import UntrustedFile, require_trusted, require_trusted_path
from inventory.files.text_files import MAX_FILE_BYTES

LOCK_SECONDS: Final = 10.0
"""How long a writer waits for another one. Each needs milliseconds."""
_POLL_SECONDS: Final = 0.02
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NEW_MODE: Final = 0o644
_UNWRITABLE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ETXTBSY, errno.EXDEV})


class FileChanged(InventoryError):
    """Somebody else has changed the file since it was read. Nothing was written."""


class FileNotWritable(InventoryError):
    """This process may not replace the file. Nothing was written."""


def replace_file(path: Path, before: str | None, after: str) -> None:
    """Write a new text into a file that has the text ``before``; None: it does not exist yet.

    Mode, owner, access lists and a byte order mark stay. A link stays a link: its target is replaced.

    Raises:
        FileChanged: the file has another text, exists already, or is gone.
        FileNotWritable: the file or its folder can't be written, or is not trusted.
        InventoryError: the disk is full, or another error of the system.
    """
    if len(after.encode()) > MAX_FILE_BYTES:
        raise InventoryError("this file would be larger than 10 MiB", file=path, hint="Split it.")
    target = Path(os.path.realpath(path))
    try:
        if before is None:
            _create(target, after)
            return
        with _lock(target, path) as descriptor:
            require_trusted(target, descriptor)
            # Refuse a file with further names: they would keep the old text.
            if os.fstat(descriptor).st_nlink > 1:
                hint = "Remove the other hard links, or write the change yourself."
                raise FileNotWritable("this file has further names (hard links)", file=path, hint=hint)
            raw = _read_all(descriptor)
            if raw.removeprefix(_BYTE_ORDER_MARK) != before.encode():
                raise FileChanged("this file was changed meanwhile", file=path, hint="Look at it, and ask again.")
            mark = _BYTE_ORDER_MARK if raw.startswith(_BYTE_ORDER_MARK) else b""
            _replace(target, descriptor, mark + after.encode())
    except UntrustedFile as error:
        raise FileNotWritable(f"this file is not trusted: {error.message}", file=path, hint=error.hint) from error
    except OSError as error:
        raise _describe(path, error) from error


def _describe(path: Path, error: OSError) -> InventoryError:
    if error.errno == errno.ENOENT:
        return FileChanged("this file is gone", file=path, hint="Look where the inventory is, and ask again.")
    if error.errno in _UNWRITABLE:
        hint = "Let the user who runs fleetpatch write it, or write the change yourself: it is shown as a diff."
        return FileNotWritable(f"this file can't be written: {error.strerror}", file=path, hint=hint)
    found = InventoryError(f"this file can't be written: {error.strerror or error}", file=path)
    found.is_storage_fault = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}
    return found


@contextlib.contextmanager
def _lock(target: Path, path: Path) -> Iterator[int]:
    """Give the open file, locked. If it was replaced while this process waited for the lock, it opens the new one."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _wait_for_lock(descriptor, deadline, path)
            opened, present = os.fstat(descriptor), target.stat()
            if (opened.st_dev, opened.st_ino) == (present.st_dev, present.st_ino):
                yield descriptor
                return
        finally:
            os.close(descriptor)  # ends the lock


def _wait_for_lock(descriptor: int, deadline: float, path: Path) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = f"another process has held the lock of this file for {LOCK_SECONDS:g} s"
                raise FileChanged(message, file=path, hint="Try again when it has ended.") from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _replace(target: Path, descriptor: int, content: bytes) -> None:
    """Put a new file in the place of an open one, with its owner, mode and attributes."""
    status = os.fstat(descriptor)
    with _write_beside(target, content, 0o600) as (temporary, new):
        made = os.fstat(new)
        if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
            os.fchown(new, status.st_uid, status.st_gid)
        for name in os.listxattr(descriptor):
            with contextlib.suppress(OSError):  # security labels: the system gives the new file its own
                os.setxattr(new, name, os.getxattr(descriptor, name))
        os.fchmod(new, status.st_mode & 0o7777)
        os.fsync(new)
        temporary.rename(target)
    sync_folder(target.parent)


def _create(target: Path, after: str) -> None:
    if not target.parent.is_dir():
        require_trusted_path(target.parent.parent)
        target.parent.mkdir(mode=0o755)
    require_trusted_path(target.parent)
    with _write_beside(target, after.encode(), _NEW_MODE) as (temporary, new):
        os.fsync(new)
        try:
            os.link(temporary, target)  # never in the place of another file, as rename would
        except FileExistsError:
            raise FileChanged("this file was made meanwhile", file=target, hint="Look at it, and ask again.") from None
        temporary.unlink()
    sync_folder(target.parent)


@contextlib.contextmanager
def _write_beside(target: Path, content: bytes, mode: int) -> Iterator[tuple[Path, int]]:
    """Give a temporary file with the content. Its name begins with a dot: no inventory reads it, if it is left."""
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
        yield temporary, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
