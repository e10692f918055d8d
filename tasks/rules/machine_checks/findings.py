"""What the findings of checks mean together: the worst of them, a machine's readiness, the check that an error ends."""

from collections.abc import Sequence
from typing import Final

from inventory.errors import InventoryError
from tasks.domain.assessment import ErrorInfo, Finding
from tasks.domain.errors import (
    AuthenticationFailed,
    BrokenPackages,
    CannotRun,
    CredentialError,
    FleetpatchError,
    HostKeyMismatch,
    HostKeyUnknown,
    ListsUnread,
    ManagerBusy,
    ManagerError,
    PrivilegeError,
    RepositoryError,
    TransportError,
    Unreachable,
    WayUnreachable,
)
from tasks.domain.states import FindingLevel, ReadinessState
from tasks.rules.machine_checks.packages import PACKAGE_LOCK_CHECK

PRIVILEGE_CHECK = "privilege"
"""The check of the rights of the login."""
SETTINGS_CHECK = "settings"
"""The check of a machine's settings, as the machine itself reports it."""
PACKAGE_LISTS_CHECK = "package lists"
"""The check whether the machine has ever read its package lists. The checks after it need them."""

CHECK_NAMES = (
    "reach", "host key", "login", PRIVILEGE_CHECK, "facts", "clock", SETTINGS_CHECK, PACKAGE_LISTS_CHECK, "disk",
    "packages", "repositories", PACKAGE_LOCK_CHECK, "pending-reboot", "auto-updater", "held",
)  # fmt: skip
"""All checks of a machine. Each check needs the ones before it."""

_CHECKS_BY_ERROR: tuple[tuple[type[FleetpatchError], str], ...] = (
    (Unreachable, "reach"),
    (WayUnreachable, "reach"),
    (HostKeyMismatch, "host key"),
    (HostKeyUnknown, "host key"),
    (AuthenticationFailed, "login"),
    (CredentialError, "login"),
    (CannotRun, "reach"),  # a library is missing here: nothing was sent
    (InventoryError, "reach"),  # a file that the inventory names can't be used
    (PrivilegeError, "privilege"),
    (TransportError, "reach"),
    (ManagerBusy, PACKAGE_LOCK_CHECK),
    (ListsUnread, PACKAGE_LISTS_CHECK),
    (RepositoryError, "repositories"),
    (BrokenPackages, "packages"),
    (ManagerError, "packages"),
)
_PASSED_MESSAGES = {
    "reach": "it answers",
    "host key": "it is the machine that it should be",
    "login": "the login works",
    "privilege": "the login may do what is needed",
    "facts": "it says what it is",
}
CHECKS_BY_ERROR_KIND: Final = {kind.__name__: check for kind, check in _CHECKS_BY_ERROR}


def find_worst_level(findings: Sequence[Finding]) -> FindingLevel:
    """Return the worst level among findings, or GOOD if there are none."""
    levels = {finding.level for finding in findings}
    order = (FindingLevel.BLOCK, FindingLevel.WARN, FindingLevel.REMARK)
    return next((level for level in order if level in levels), FindingLevel.GOOD)


def judge_readiness(
    level: FindingLevel | None, reason: str, *, error_message: str = "", patched_by: str = "", doubt: str = ""
) -> tuple[ReadinessState, str]:
    """Return whether fleetpatch can patch a machine, and why not. All that shows readiness asks here.

    Args:
        level: the worst finding of its newest answer; None: it has never answered, or its answer does not say it.
        reason: of that finding, see ``explain_level``.
        error_message: why its newest assessment got no answer; "": it did.
        patched_by: who else patches it, as a participle: "by people"; "": nobody.
        doubt: why it is not known whether fleetpatch patches it; "": it is known.
    """
    if patched_by:
        return ReadinessState.NOT_READY, f"patched {patched_by}, so fleetpatch only assesses it"
    if error_message:
        return ReadinessState.NOT_READY, f"the last try failed: {error_message}"
    if level is None:
        return ReadinessState.UNKNOWN, reason
    if doubt and level is not FindingLevel.BLOCK:
        return ReadinessState.UNKNOWN, doubt
    states = {FindingLevel.BLOCK: ReadinessState.NOT_READY, FindingLevel.WARN: ReadinessState.WARNINGS}
    return states.get(level, ReadinessState.READY), reason


def explain_level(findings: Sequence[Finding]) -> str:
    """Return the first finding of the worst level, and how many more there are; "" if nothing is to be done."""
    level = find_worst_level(findings)
    if not level.is_problem:
        return ""
    messages = [finding.message for finding in findings if finding.level is level]
    return messages[0] + (f"; and {len(messages) - 1} more" if messages[1:] else "")


def drop_contradicted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, without good ones of a check that another finding says something else of."""
    bad = {finding.check for finding in findings if finding.level is not FindingLevel.GOOD}
    return tuple(finding for finding in findings if finding.level is not FindingLevel.GOOD or finding.check not in bad)


def find_failed_check(error: FleetpatchError) -> str:
    """Return the check that an error ends; "facts" if it says nothing of any."""
    return next((check for kind, check in _CHECKS_BY_ERROR if isinstance(error, kind)), "facts")


def build_failure_findings(check: str, error: ErrorInfo) -> tuple[Finding, ...]:
    """Return good findings for the checks before the failed one, and a blocking finding for the failed one."""
    return (*build_passed_findings(check), Finding.block(check, error.message, error.hint))


def build_passed_findings(failed_check: str) -> tuple[Finding, ...]:
    """Return good findings for the checks before the given one. That it could be done proves that they passed."""
    names = CHECK_NAMES[: CHECK_NAMES.index(failed_check)]
    return tuple(Finding.good(name, _PASSED_MESSAGES[name]) for name in names if name in _PASSED_MESSAGES)


def describe_blocking_findings(findings: Sequence[Finding]) -> str:
    """Return the blocking findings in words, or ""."""
    return "; ".join(str(finding) for finding in findings if finding.level is FindingLevel.BLOCK)
