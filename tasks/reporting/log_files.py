"""Cleans a machine's log and names the file that holds it."""

import hashlib
import re

from tasks.reporting.sanitizing import sanitize

LOG_DIRECTORY_NAME = "logs"


_SAFE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def sanitize_log(text: str) -> str:
    """Return a log cleaned, with lines that overwrote themselves (progress bars) reduced to their last state."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(sanitize(line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def to_safe_file_name(name: str) -> str:
    """Return a file name for what may be named anything. Two names never give the same one."""
    if _SAFE_NAME_PATTERN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60].strip("_") or "unnamed"
    return f"{readable}~{digest}"


def build_log_file_name(machine: str) -> str:
    """Return the name of a machine's log file."""
    return f"{to_safe_file_name(machine)}.log"
