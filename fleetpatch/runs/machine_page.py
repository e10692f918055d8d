"""Builds what the page of one machine in one run shows: the journal in words, and the end of its log."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.reports.log_files import sanitize_log
from tasks.reports.sanitizing import sanitize_to_one_line

LOG_CHARACTERS: Final = 120_000
LOG_LINES: Final = 1200
MAX_ENTRIES: Final = 400
_DETAIL_CHARACTERS: Final = 400
_CHUNK_LINES: Final = 5000
_ACTS: Final = {
    "step": "step completed",
    "stage": "download",
    "install": "installation",
    "repair": "repair of packages",
    "reboot": "reboot",
    "hook": "hook",
    "restart": "restart of services",
    "claim": "lock of the machine",
    "attempt": "try to lock the machine",
    "unlock": "unlock by a person",
    "pause_updaters": "pause of automatic updaters",
    "restore_updaters": "return of automatic updaters",
    "power_on": "power on",
    "power_off": "power off",
    "plan": "new plan",
    "set-release": "release of the machine set",
}


@dataclass(frozen=True, slots=True)
class JournalLine:
    """An entry of the journal in words. ``begins``: it was written before the act, so the act may not have happened."""

    at: datetime
    step: str
    begins: bool
    act: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of a log, in whole lines. ``left_out``: characters of the log before it."""

    text: str
    left_out: int


def describe_journal(entries: Sequence[JournalEntry]) -> list[JournalLine]:
    """Return the last entries in words. Pure."""
    return [
        JournalLine(
            entry.at,
            entry.step.value,
            entry.mark is JournalMark.BEFORE,
            _ACTS.get(entry.act, entry.act.replace("_", " ")),
            "" if entry.key == entry.step.value else sanitize_to_one_line(entry.key, 80),
            "" if entry.act in {"step", "plan"} else _describe_detail(entry.detail),
        )
        for entry in entries[-MAX_ENTRIES:]
    ]


def _describe_detail(detail: dict[str, object]) -> str:
    """Return the facts of an entry; nested ones as JSON."""
    parts = [
        f"{name.replace('_', ' ')}: {value if isinstance(value, str | int | float) else json.dumps(value)}"
        for name, value in detail.items()
        if value not in (None, "", [], {})
    ]
    return sanitize_to_one_line("; ".join(parts), _DETAIL_CHARACTERS)


def cut_log(text: str) -> LogEnd:
    """Return the sanitized end of a log: its last lines, or the end of its last line if that is too long. Pure."""
    end = text.rstrip("\n")
    start = max(0, len(end) - LOG_CHARACTERS)
    if start and end[start - 1] != "\n":
        start = end.find("\n", start) + 1 or start
    lines = end[start:].split("\n")
    shown = lines[-LOG_LINES:]
    left_out = start + sum(len(line) + 1 for line in lines[: -len(shown)])
    return LogEnd(sanitize_log("\n".join(shown)), left_out)


def iterate_log(text: str) -> Iterator[str]:
    """Yield a whole log, sanitized, in parts."""
    lines = text.split("\n")
    for start in range(0, len(lines), _CHUNK_LINES):
        yield sanitize_log("\n".join(lines[start : start + _CHUNK_LINES])) + "\n"
