"""The seals of the entries of the audit log. Pure.

Each entry has a number, the seal of the entry before it, and its own seal: HMAC-SHA256 (RFC 2104) over all its fields
with a key that is not in the database. A chain of plain hashes could be computed anew by whoever may write the table.
"""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC
from typing import Final

from tasks.domain.rows.audit import AuditEntry

KEY_NAME: Final = "audit"
"""The name of the key in inventory/files/private_keys.py. A former key is kept as ``audit-`` and its id."""
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
