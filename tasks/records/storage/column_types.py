"""Column types that behave the same on SQLite and PostgreSQL for all text that a machine can send.

PostgreSQL rejects NUL in text. No driver encodes a lone surrogate. A PostgreSQL index entry holds about 2,700 bytes.
SQLite does not store time zones. These columns are for searches; the documents keep the exact text.
"""

import hashlib
import re
from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, String, Text
from sqlalchemy.types import TypeDecorator

KEY_CHARACTERS = 255
_UNSTORABLE_PATTERN = re.compile("[\x00\ud800-\udfff]")
_KEY_HEAD_CHARACTERS = KEY_CHARACTERS - 65  # leaves room for "~" and a SHA-256 in hex


def replace_unstorable(text: str) -> str:
    """Return text with U+FFFD instead of each character that a text column cannot hold."""
    return _UNSTORABLE_PATTERN.sub("\ufffd", text)


def to_index_key(text: str) -> str:
    """Return text that fits an index. Long or unstorable text is cut and gets a digest, which keeps it unique."""
    if len(text) <= KEY_CHARACTERS and not _UNSTORABLE_PATTERN.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{replace_unstorable(text[:_KEY_HEAD_CHARACTERS])}~{digest}"


class KeyType(TypeDecorator[str]):
    """Text for searches: names and ids."""

    impl = String(KEY_CHARACTERS)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Make the value fit the index. Searched values go through here too, so they match."""
        return None if value is None else to_index_key(value)


class TextType(TypeDecorator[str]):
    """Text for readers: reasons and messages."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace characters that a text column cannot hold."""
        return None if value is None else replace_unstorable(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime that is stored in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert an aware datetime to UTC. Raise ValueError if it has no zone."""
        if value is not None and value.utcoffset() is None:
            raise ValueError(f"the datetime {value.isoformat()} has no zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the datetime in UTC. SQLite returns it without a zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
