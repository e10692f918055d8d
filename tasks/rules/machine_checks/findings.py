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


def join_first_names(names: Sequence[str]) -> str:
    """Return the first five names and the number of the others."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
