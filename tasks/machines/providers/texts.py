"""What the answers of clouds have as text."""

from datetime import datetime
from typing import Final

from tasks.domain.provided_machines import Consistency

_MAX_MESSAGE_CHARACTERS: Final = 300


def parse_consistency(text: str) -> Consistency:
    """Return the consistency of a mark. One that is not ours, or that somebody changed, is unknown."""
    return Consistency(text) if text in set(Consistency) else Consistency.UNKNOWN


def parse_time(text: object) -> datetime | None:
    """Return a time of ISO 8601; None: it is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def shorten(text: str) -> str:
    """Return the message of a provider in one line, without its end if it is long."""
    return " ".join(text.split())[:_MAX_MESSAGE_CHARACTERS]
