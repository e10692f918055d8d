"""Helpers that the machine checks build their findings with."""

from collections.abc import Sequence

from tasks.model import Finding
from tasks.states import FindingLevel


def build_good_finding(check: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, FindingLevel.GOOD, message)


def build_warning(check: str, message: str, remedy: str) -> Finding:
    """Return a finding that warns."""
    return Finding(check, FindingLevel.WARN, message, remedy)


def build_blocker(check: str, message: str, remedy: str) -> Finding:
    """Return a finding that blocks patching."""
    return Finding(check, FindingLevel.BLOCK, message, remedy)


def join_first_names(names: Sequence[str]) -> str:
    """Return the first few, and how many more there are."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
