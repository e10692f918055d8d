"""Logs as people read them: harmless, without the noise of progress bars, and no longer than there is room for."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from tasks.reporting.text import clean

FOLDER = "logs"

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_LEAST_BYTES = 400


@dataclass(frozen=True, slots=True)
class LogView:
    """The end of a log, and how many lines before it are left out."""

    text: str
    left_out: int
    lines: int


def clean_log(text: str) -> str:
    """Return a log cleaned, with lines that overwrote themselves (progress bars) reduced to their last state."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(clean(line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def safe_name(name: str) -> str:
    """Return a file name for what may be named anything. Two names never give the same one."""
    if _PLAIN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60].strip("_") or "unnamed"
    return f"{readable}~{digest}"


def file_name(machine: str) -> str:
    """Return the name of a machine's log file."""
    return f"{safe_name(machine)}.log"


def views(logs: Mapping[str, str], machines: Sequence[str], room: int) -> dict[str, LogView]:
    """Return the ends of those machines' logs that together fit into ``room`` bytes of HTML.

    What one machine doesn't need is left to those after it.
    """
    found: dict[str, LogView] = {}
    waiting = [machine for machine in machines if machine in logs]
    for number, machine in enumerate(waiting):
        fair = room // (len(waiting) - number)
        if fair < _LEAST_BYTES:
            break
        text = logs[machine]  # each is read once, and only as long as there is room
        if text.strip():
            found[machine], used = _tail(text, fair)
            room -= used
    return found


def _tail(text: str, room: int) -> tuple[LogView, int]:
    lines = clean_log(text[-4 * room :]).strip("\n").split("\n")
    total = text.strip("\n").count("\n") + 1
    kept: list[str] = []
    used = 0
    for line in reversed(lines):
        size = len(escape(line).encode()) + 1
        if used + size > room:
            break
        kept.append(line)
        used += size
    if not kept:  # one line that is too long by itself: its end says most
        kept, used = [lines[-1][-room // 6 :]], room
    return LogView("\n".join(reversed(kept)), max(0, total - len(kept)), total), used
