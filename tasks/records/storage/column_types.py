"""Column types that behave the same on SQLite and PostgreSQL, whatever text a machine sends.

PostgreSQL refuses NUL in text, no driver encodes a lone surrogate, an index entry has room for some 2,700 bytes, and
SQLite forgets time zones. The documents beside these columns keep what was said to the letter; columns are for finding.
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
    """Return text with U+FFFD for each character that a text column can't hold."""
    return _UNSTORABLE_PATTERN.sub("\ufffd", text)


def to_index_key(text: str) -> str:
    """Return text as an index can hold it: a long one is cut, and told apart from others by a digest at its end."""
    if len(text) <= KEY_CHARACTERS and not _UNSTORABLE_PATTERN.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{replace_unstorable(text[:_KEY_HEAD_CHARACTERS])}~{digest}"


class KeyType(TypeDecorator[str]):
    """Text that is looked up: names and ids."""

    impl = String(KEY_CHARACTERS)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Make it fit the index; lookups go through here too, so that they match."""
        return None if value is None else to_index_key(value)


class TextType(TypeDecorator[str]):
    """Text that is read: reasons and messages."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace what no text column holds."""
        return None if value is None else replace_unstorable(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware on both sides, UTC in between."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse what has no zone; store the rest in UTC."""
        if value is not None and value.utcoffset() is None:
            raise ValueError(f"the datetime {value.isoformat()} has no zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back what SQLite forgot."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
