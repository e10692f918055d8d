"""Sanitizes a machine's log, cuts it, and names its file."""

from collections.abc import Mapping, Sequence

from markupsafe import escape

from inventory.data_class import dataclass
from tasks.reports.sanitizing import sanitize, to_safe_file_name

LOG_DIRECTORY_NAME = "logs"


def sanitize_log(text: str) -> str:
    """Return a sanitized log. Lines that overwrite themselves (progress bars) are reduced to their last state."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(sanitize(line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def build_log_file_name(machine: str) -> str:
    """Return the name of a machine's log file."""
    return f"{to_safe_file_name(machine)}.log"


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
    excerpts: dict[str, LogExcerpt] = {}
    waiting = [machine for machine in machines if machine in logs]
    for number, machine in enumerate(waiting):
        fair = room // (len(waiting) - number)
        if fair < _MIN_EXCERPT_BYTES:
            break
        text = logs[machine]  # each log is read once, and only if there is room
        if text.strip():
            excerpts[machine], used = _build_log_excerpt(text, fair)
            room -= used
    return excerpts


def _build_log_excerpt(text: str, room: int) -> tuple[LogExcerpt, int]:
    lines = sanitize_log(text[-4 * room :]).strip("\n").split("\n")
    total = text.strip("\n").count("\n") + 1
    last_lines: list[str] = []
    used = 0
    for line in reversed(lines):
        size = len(escape(line).encode()) + 1
        if used + size > room:
            break
        last_lines.append(line)
        used += size
    if not last_lines:  # the last line alone is too long: keep its end, the most useful part
        last_lines, used = [lines[-1][-room // 6 :]], room
    return LogExcerpt("\n".join(reversed(last_lines)), max(0, total - len(last_lines)), total), used
