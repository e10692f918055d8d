"""Builds findings for the machine checks."""

from collections.abc import Sequence

from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

PRIVILEGE_CHECK = "privilege"
"""The check of the rights of the login."""
SETTINGS_CHECK = "settings"
"""The check of a machine's settings, as the machine itself reports it."""


def build_good_finding(check: str, message: str) -> Finding:
    """Return a finding of level good."""
    return Finding(check, FindingLevel.GOOD, message)


def build_warning(check: str, message: str, remedy: str) -> Finding:
    """Return a finding of level warn."""
    return Finding(check, FindingLevel.WARN, message, remedy)


def build_blocker(check: str, message: str, remedy: str) -> Finding:
    """Return a finding of level block: it prevents patching."""
    return Finding(check, FindingLevel.BLOCK, message, remedy)


def describe_blocking_findings(findings: Sequence[Finding]) -> str:
    """Return the blocking findings in words, or ""."""
    return "; ".join(
        f"{finding.check}: {finding.message}" for finding in findings if finding.level is FindingLevel.BLOCK
    )
