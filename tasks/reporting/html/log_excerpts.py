"""Cuts the machines' logs to their ends, so that they fit on the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from tasks.reporting.log_files import sanitize_log

_MIN_EXCERPT_BYTES = 400


@dataclass(frozen=True, slots=True)
class LogExcerpt:
    """The end of a log.

    ``left_out`` is the number of lines before it that are left out, ``lines`` the number of lines of the whole log.
    """

    text: str
    left_out: int
    lines: int


def build_log_excerpts(logs: Mapping[str, str], machines: Sequence[str], room: int) -> dict[str, LogExcerpt]:
    """Return the ends of the machines' logs. All of them together fit into ``room`` bytes of HTML.

    Each machine has an equal share. Later machines get what an earlier one does not use.
    """
    found: dict[str, LogExcerpt] = {}
    waiting = [machine for machine in machines if machine in logs]
    for number, machine in enumerate(waiting):
        fair = room // (len(waiting) - number)
        if fair < _MIN_EXCERPT_BYTES:
            break
        text = logs[machine]  # each log is read once, and only if there is room
        if text.strip():
            found[machine], used = _build_log_excerpt(text, fair)
            room -= used
    return found


def _build_log_excerpt(text: str, room: int) -> tuple[LogExcerpt, int]:
    lines = sanitize_log(text[-4 * room :]).strip("\n").split("\n")
    total = text.strip("\n").count("\n") + 1
    kept: list[str] = []
    used = 0
    for line in reversed(lines):
        size = len(escape(line).encode()) + 1
        if used + size > room:
            break
        kept.append(line)
        used += size
    if not kept:  # the last line alone is too long: keep its end, the most useful part
        kept, used = [lines[-1][-room // 6 :]], room
    return LogExcerpt("\n".join(reversed(kept)), max(0, total - len(kept)), total), used
