"""The head of the audit log: the number and the seal of its newest entry, in a private file beside the keys.

Whoever may delete rows can remove the newest entries without breaking the chain. This file shows it. Each computer, and
each user on it, knows only the entries that its own programs have seen.
"""

import fcntl
import hashlib
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inventory.files.paths import ensure_private_directory
from inventory.files.private_keys import KeyFileError, find_key_folder
from tasks.domain.errors import RequestError
from tasks.records.storage.database import Database

NUMBER_LIMIT: Final = 2**53
"""No log gets so long. Rows with such a number were added in the database, and no entry is added behind them."""
_SIZE: Final = 512
"""Bytes of the file, which is written in place: a disk writes one sector completely or not at all."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry of an audit log."""

    number: int
    seal: str


def parse_head(text: str) -> AuditHead:
    """Return the head that a person gives: its number, a colon and its seal.

    Raises:
        RequestError: the text is none.
    """
    number, _, seal = text.strip().partition(":")
    if not number.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", seal):
        raise RequestError(f"{text!r} names no entry", hint="Write its number, a colon and its seal: 42:9f86d0…")
    return AuditHead(int(number), seal)


def find_head_path(database: Database, name: str = "audit-head") -> Path:
    """Return the file of the head of a fleet's records. The name does not depend on the database user.

    Args:
        database: the database of the records.
        name: the beginning of the file's name.

    Raises:
        KeyFileError: the folder of keys is not known.
    """
    url = database.url
    host = str(url.host or url.query.get("host", "")).lower()
    database_parts = [url.get_backend_name(), host, str(url.port or url.query.get("port", "")), url.database]
    text = json.dumps([*database_parts, database.schema] if database.schema else database_parts)
    return find_key_folder() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_head(path: Path) -> AuditHead | None:
    """Return the head in a file; None if there is no file.

    Raises:
        KeyFileError: the file can't be read, is damaged, or belongs to another user.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return _parse(descriptor, path)
    finally:
        os.close(descriptor)


def advance_head(path: Path, head: AuditHead) -> None:
    """Write a head, unless the file has the same or a later one that can be.

    Raises:
        KeyFileError: the file can't be written, is damaged, or belongs to another user.
    """
    try:
        ensure_private_directory(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}", hint=_HINT) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        earlier_head = _parse(descriptor, path)
        if earlier_head is None or not head.number <= earlier_head.number < NUMBER_LIMIT:
            content = json.dumps({"number": head.number, "seal": head.seal}).encode()
            os.pwrite(descriptor, content.ljust(_SIZE - 1) + b"\n", 0)
            os.fsync(descriptor)
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}", hint=_HINT) from error
    finally:
        os.close(descriptor)


def _parse(descriptor: int, path: Path) -> AuditHead | None:
    """Return the head in an open file; None if the file is new.

    Raises:
        KeyFileError: it is damaged, or others can write it.
    """
    status = os.fstat(descriptor)
    if status.st_uid not in {0, os.geteuid()} or stat.S_IMODE(status.st_mode) & 0o022:
        raise KeyFileError(f"{path} can be written by others", hint=_HINT)
    content = os.pread(descriptor, _SIZE, 0)
    if not content:
        return None
    with suppress(ValueError, KeyError, TypeError):
        values = json.loads(content)
        return AuditHead(int(values["number"]), str(values["seal"]))
    raise KeyFileError(f"{path} is damaged", hint="Move it away: the next entry of the audit log begins a new one.")


_HINT: Final = "It is to be a file of mode 0600 of the user of this program."
