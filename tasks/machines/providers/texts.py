"""Texts of providers: the mark that fleetpatch puts on a snapshot, and what their answers have as text."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from tasks.domain.provided_machines import Consistency

_FORM = re.compile(r"\s*fleetpatch snapshot (\S+) \(([a-z-]+)\)\s*")
_MAX_MESSAGE_CHARACTERS: Final = 300


def write_description(snapshot_id: str, consistency: Consistency) -> str:
    """Return the description of a snapshot of ours, where the provider has no other place for a mark."""
    return f"fleetpatch snapshot {snapshot_id} ({consistency})"


def read_description(text: object) -> tuple[str, Consistency] | None:
    """Return the id and the consistency of a snapshot; None: it is not ours."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    return (match[1], parse_consistency(match[2])) if match is not None else None


def find_described(items: Iterable[dict[str, Any]], snapshot_id: str) -> dict[str, Any] | None:
    """Return the snapshot whose ``description`` has the id; None: there is none of ours."""
    labels = ((read_description(item.get("description")), item) for item in items)
    return next((item for label, item in labels if label is not None and label[0] == snapshot_id), None)


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
