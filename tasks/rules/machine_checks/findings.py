"""Builds findings for the machine checks."""

from collections.abc import Sequence

from tasks.model import Finding
from tasks.states import FindingLevel


def build_good_finding(check: str, message: str) -> Finding:
    """Return a finding of level good."""
    return Finding(check, FindingLevel.GOOD, message)


def build_warning(check: str, message: str, remedy: str) -> Finding:
    """Return a finding of level warn."""
    return Finding(check, FindingLevel.WARN, message, remedy)


def build_blocker(check: str, message: str, remedy: str) -> Finding:
    """Return a finding of level block: it prevents patching."""
    return Finding(check, FindingLevel.BLOCK, message, remedy)


def join_first_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, at most ``limit``, and the number of the others."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
