"""Sanitizes a machine's log and names its file."""

import hashlib
import re

from tasks.reports.sanitizing import sanitize

LOG_DIRECTORY_NAME = "logs"


_SAFE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def sanitize_log(text: str) -> str:
    """Return a sanitized log. Lines that overwrite themselves (progress bars) are reduced to their last state."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(sanitize(line.rstrip("\r").rpartition("\r")[2]) for line in lines)


def to_safe_file_name(name: str) -> str:
    """Return a safe file name for any name. Different names have different file names."""
    if _SAFE_NAME_PATTERN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60].strip("_") or "unnamed"
    return f"{readable}~{digest}"


def build_log_file_name(machine: str) -> str:
    """Return the name of a machine's log file."""
    return f"{to_safe_file_name(machine)}.log"
