"""The checks before an installation (clock, disk, packages, pending reboot), and whether a machine is ready. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from inventory.errors import InventoryError
from tasks.domain.assessment import ErrorInfo
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
    ProtocolViolation,
    RepositoryError,
    TransportError,
    Unreachable,
)
from tasks.domain.model import Assessment, Facts, Finding, PackageState, RebootNeed, Update
from tasks.domain.states import FindingLevel, ReadinessState, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.disk import check_disk_space
from tasks.rules.machine_checks.findings import (
    PRIVILEGE_CHECK,
    SETTINGS_CHECK,
    build_blocker,
    build_good_finding,
    build_warning,
)
from tasks.rules.machine_checks.packages import (
    PACKAGE_LOCK_CHECK,
    PENDING_REBOOT_CHECK,
    OthersPolicy,
    check_given_up,
    check_packages,
    check_vendor_changes,
)

NEXT_BOOT_CHECK: Final = "next boot"
"""The check whether a kernel that the next boot may choose has its files."""


def check_machine_state(
    facts: Facts,
    packages: PackageState,
    chosen: Sequence[Update],
    *,
    repair: bool = False,
    reboot_first: bool = False,
    reboot_may_wait: bool = False,
    reboot_due: str = "",
    updaters_paused: bool = False,
    patched_by_others: OthersPolicy = "warn",
    kernel_removal: str = "",
) -> list[Finding]:
    """Return findings about a machine's state before the chosen updates are installed. Pure.

    ``reboot_due`` says why the run does a pending reboot after the installation although live patches mitigate it, or
    "". ``kernel_removal`` is the command that removes kernels that are no longer used, or "".
    """
    download = sum(update.size_bytes or 0 for update in chosen)
    of_packages = check_packages(
        packages, repair_allowed=repair, updaters_paused=updaters_paused, patched_by_others=patched_by_others
    )
    return [
        *find_relevant_settings(facts, chosen),
        check_clock(facts.clock_skew_seconds, facts.clock_error_seconds),
        *check_disk_space(facts, download_bytes=download, updates=chosen, kernel_removal=kernel_removal),
        *check_vendor_changes(chosen),
        *check_given_up(packages, chosen),
        *(
            finding for finding in of_packages if finding.check != PENDING_REBOOT_CHECK
        ),  # _check_pending_reboot reports it, with the action of this run
        _check_pending_reboot(packages.reboot, first=reboot_first, may_wait=reboot_may_wait, due=reboot_due),
    ]


def find_relevant_settings(facts: Facts, chosen: Sequence[Update]) -> list[Finding]:
    """Return what the machine says of its settings, as far as it matters for a run that installs these updates.

    Little room matters for an update of the system itself. A next boot that lacks files always matters. What only might
    become a problem is for ``doctor``: it would put a warning into every report of the machine.
    """
    is_large = any(update.changes_boot for update in chosen)
    return [
        finding
        for finding in facts.findings
        if (is_large if finding.check == "disk" else finding.level is FindingLevel.BLOCK)
        or finding.check == NEXT_BOOT_CHECK
    ]


def find_next_boot_warnings(facts: Facts | None) -> tuple[Finding, ...]:
    """Return the warning that the next boot lacks files, if the machine says so."""
    return tuple(finding for finding in facts.findings if finding.check == NEXT_BOOT_CHECK) if facts else ()


def check_next_boot(before: Facts | None, after: Facts) -> list[Finding]:
    """Return a blocking finding if the next boot lacks files that it had before the run."""
    boot_warnings = find_next_boot_warnings(before)
    return [
        replace(boot_warning, level=FindingLevel.BLOCK)
        for boot_warning in find_next_boot_warnings(after)
        if boot_warning not in boot_warnings
    ]


def _check_pending_reboot(need: RebootNeed, *, first: bool, may_wait: bool, due: str) -> Finding:
    reasons = need.explanation
    match need.answer:
        case YesNoUnknown.NO:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, "no reboot is pending")
        case YesNoUnknown.YES if may_wait:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, f"a reboot is pending, and may wait: {reasons}")
        case YesNoUnknown.YES if first:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, f"the pending reboot is done first: {reasons}")
        case YesNoUnknown.YES if due:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, f"a reboot is pending: {reasons}; {due}")
        case YesNoUnknown.YES:
            remedy = "Reboot it, or allow fleetpatch to do pending reboots first."
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.WARN, f"a reboot was pending already: {reasons}", remedy)
        case _:
            return Finding(
                PENDING_REBOOT_CHECK,
                FindingLevel.GOOD,
                f"the machine can't tell whether a reboot is pending: {reasons}",
            )


_SKEW_WARN_SECONDS = 5.0

_SKEW_BLOCK_SECONDS = 300.0  # from about here, signatures and Kerberos tickets become invalid


def check_clock(skew_seconds: float, error_seconds: float = 0.0) -> Finding:
    """Return a finding about the machine's clock.

    Jobs use the machine's own clock for their deadlines. fleetpatch corrects deadlines by the skew, so a few seconds
    only warn. A skew of minutes blocks: signatures and certificates can't be checked.

    Args:
        skew_seconds: positive if the machine's clock is ahead of the controller's.
        error_seconds: so far the skew may be wrong in either direction. Only what is certain warns or blocks.
    """
    apart = abs(skew_seconds)
    least, most = apart - error_seconds, apart + error_seconds
    if least <= _SKEW_WARN_SECONDS and most > _SKEW_BLOCK_SECONDS:
        slow = format_duration(2 * error_seconds)
        return build_warning(
            "clock",
            f"the clock can't be compared with the controller's: the machine took {slow} to answer",
            "Find out why the machine or the connection is slow, and assess again.",
        )
    if apart <= _SKEW_WARN_SECONDS:
        return build_good_finding("clock", "the clock agrees with the controller's")
    if least <= _SKEW_WARN_SECONDS:
        exactness = f"to {format_duration(most)}, as exactly as a slow answer tells"
        return build_good_finding("clock", f"the clock agrees with the controller's {exactness}")
    way = "ahead of" if skew_seconds > 0 else "behind"
    message = f"the clock is {format_duration(apart)} {way} the controller's"
    remedy = "Let the machine's clock be set from a time server, and see that the controller's is."
    if least > _SKEW_BLOCK_SECONDS:
        return build_blocker(
            "clock", f"{message}: too far for certificates and signatures to be checked reliably", remedy
        )
    return build_warning("clock", f"{message}; deadlines given to the machine are corrected by that", remedy)


PACKAGE_LISTS_CHECK = "package lists"
"""The check whether the machine has ever read its package lists. The checks after it need them."""

CHECK_NAMES = (
    "reach", "host key", "login", PRIVILEGE_CHECK, "facts", "clock", SETTINGS_CHECK, PACKAGE_LISTS_CHECK, "disk",
    "packages", "repositories", PACKAGE_LOCK_CHECK, "pending-reboot", "auto-updater", "held",
)  # fmt: skip
"""All checks of a machine. Each check needs the ones before it."""

_CHECKS_BY_ERROR: tuple[tuple[type[FleetpatchError], str], ...] = (
    (Unreachable, "reach"),
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
_CHECKS_BY_ERROR_KIND = {kind.__name__: check for kind, check in _CHECKS_BY_ERROR}


def find_worst_level(findings: Sequence[Finding]) -> FindingLevel:
    """Return the worst level among findings, or GOOD if there are none."""
    levels = {finding.level for finding in findings}
    order = (FindingLevel.BLOCK, FindingLevel.WARN)
    return next((level for level in order if level in levels), FindingLevel.GOOD)


def check_assessment(assessment: Assessment) -> tuple[Finding, ...]:
    """Return the findings of an assessment. Pure: an old assessment works too."""
    if assessment.error is not None or assessment.facts is None or assessment.packages is None:
        error = assessment.error or ErrorInfo.from_error(ProtocolViolation("the machine did not answer completely"))
        return build_failure_findings(_CHECKS_BY_ERROR_KIND.get(error.kind, "facts"), error)
    return drop_contradicted((*build_passed_findings("clock"), *_check_state(assessment.facts, assessment.packages)))


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
    """Return the first finding of the worst level, and how many more there are; "" if all is good."""
    level = find_worst_level(findings)
    if level is FindingLevel.GOOD:
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
    return (*build_passed_findings(check), Finding(check, FindingLevel.BLOCK, error.message, error.hint))


def build_passed_findings(failed_check: str) -> tuple[Finding, ...]:
    """Return good findings for the checks before the given one. That it could be done proves that they passed."""
    names = CHECK_NAMES[: CHECK_NAMES.index(failed_check)]
    return tuple(Finding(name, FindingLevel.GOOD, _PASSED_MESSAGES[name]) for name in names if name in _PASSED_MESSAGES)


def _check_state(facts: Facts, packages: PackageState) -> tuple[Finding, ...]:
    findings = check_machine_state(facts, packages, packages.updates)
    findings += [finding for finding in facts.findings if finding not in findings]
    if not facts.can_reboot:
        remedy = "Restart it from its host when an update asks for that, and patch it with --reboot Never."
        findings.append(Finding("pending-reboot", FindingLevel.WARN, "it can't reboot itself: its host has to", remedy))
    return tuple(findings)
