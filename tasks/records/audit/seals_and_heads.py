"""The seals of the audit log's entries, and its head: the number and the seal of its newest entry.

Each entry has a number, the seal of the entry before it, and its own seal: HMAC-SHA256 (RFC 2104) over all its fields
with a key that is not in the database. A chain of plain hashes could be computed anew by whoever may write the table.

Whoever may delete rows can remove the newest entries without breaking the chain. The head shows it: it is in a private
file beside the keys. Each computer, and each user on it, knows only the entries that its own programs have seen.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Final

from inventory.data_class import dataclass
from inventory.files.own_keys import KeyFileError, find_key_folder, read_key
from inventory.files.paths import ensure_private_directory
from tasks.domain.errors import RequestError
from tasks.domain.rows.audit import AuditEntry
from tasks.records.storage.database import Database

KEY_NAME: Final = "audit"
"""The name of the key in inventory/files/own_keys.py. A former key is kept as ``audit-`` and its id."""
CUT_ACT: Final = "cut audit log"
MISS_ACT: Final = "miss audit entry"
"""The act of an entry that says which other one is gone or replaced, although a program has seen it."""
_FORMAT: Final = "fleetpatch audit 1"
_SEALED: Final = (
    "previous", "key_id", "who", "source", "claimed", "address", "act", "subject", "detail", "result", "message",
)  # fmt: skip


def compute_key_id(key: bytes) -> str:
    """Return the public name of a key: 8 hex digits that say nothing about it."""
    return hashlib.sha256(b"fleetpatch audit key\0" + key).hexdigest()[:8]


def compute_seal(entry: AuditEntry, key: bytes) -> str:
    """Return the seal of an entry: HMAC-SHA256 over a JSON array of all other fields, in hex."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    # SQLite lets others store bytes in a column of texts: they fit no seal.
    fields = [_FORMAT, entry.number, at, *(str(getattr(entry, name)) for name in _SEALED)]
    content = json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def seal_entry(entry: AuditEntry, number: int, previous: str, key: bytes) -> AuditEntry:
    """Return an entry with its number and seal. Its texts must be those that the database returns."""
    stored = replace(entry, number=number, previous=previous, key_id=compute_key_id(key))
    return replace(stored, seal=compute_seal(stored, key))


def is_sealed_by(entry: AuditEntry, key: bytes) -> bool:
    """Return whether an entry has the seal that belongs to its fields."""
    return hmac.compare_digest(str(entry.seal).encode(), compute_seal(entry, key).encode())


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
    """Return the head that a person gives: its number, a colon and its seal. Raise RequestError if the text is none."""
    number, _, seal = text.strip().partition(":")
    if not number.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", seal):
        raise RequestError(f"{text!r} names no entry", hint="Write its number, a colon and its seal: 42:9f86d0…")
    return AuditHead(int(number), seal)


def find_head_path(database: Database, name: str = "audit-head") -> Path:
    """Return the file of the head of a fleet's records. The name does not depend on the database user.

    ``name``: the beginning of the file's name.

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


def parse_cut(entry: AuditEntry) -> AuditHead | None:
    """Return the last entry that a cut has removed; None if the entry records no cut."""
    return _parse_head(entry.detail, "through") if entry.act == CUT_ACT else None


def parse_missed(entry: AuditEntry) -> AuditHead | None:
    """Return the entry that a program has missed; None if the entry says no such thing."""
    return _parse_head(entry.detail, "number") if entry.act == MISS_ACT else None


def _parse_head(detail: str, name: str) -> AuditHead | None:
    try:
        values = json.loads(detail)
        return AuditHead(int(values[name]), str(values["seal"]))
    except (ValueError, KeyError, TypeError):
        return None


def read_audit_key(key_id: str) -> bytes | None:
    """Return the key with an id: the present one, or a former one that was kept as ``audit-`` and its id.

    Raises:
        KeyFileError: others can read it, or it can't be read.
    """
    key = read_key(KEY_NAME)
    if key is not None and compute_key_id(key) == key_id:
        return key
    if len(key_id) != 8 or not set(key_id) <= set("0123456789abcdef"):
        return None
    former = read_key(f"{KEY_NAME}-{key_id}")
    return former if former is not None and compute_key_id(former) == key_id else None
