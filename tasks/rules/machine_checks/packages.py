"""The checks of a machine's packages and package manager, and of what else installs updates there. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal

from inventory.name_lists import join_first_names
from tasks.domain.assessment import TRY_AGAIN
from tasks.domain.model import Finding, LivePatching, PackageState, Update
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration

AUTO_UPDATER_CHECK = "auto-updater"
"""The check of the system's own updaters and of other patch managers."""

OthersPolicy = Literal["patch", "fail", "skip"]
"""What a run does with a machine that others patch: patch it too, fail its pre-check, or leave it out."""


def find_other_patchers(packages: PackageState, *, paused: bool) -> tuple[str, ...]:
    """Return the names of what installs updates on the machine by itself, and is not paused by this run.

    ``paused``: this run pauses the updaters that can be paused, before it installs.
    """
    return tuple(
        name
        for name, _ in packages.auto_updaters
        if name not in packages.non_installing_updaters and not (paused and name not in packages.unpausable_updaters)
    )


def describe_left_out(packages: PackageState, policy: OthersPolicy, *, paused: bool) -> str:
    """Return why a machine is left out, or "": others patch it, and the policy skips such machines."""
    patchers = find_other_patchers(packages, paused=paused) if policy == "skip" else ()
    return (
        f"left out: others patch this machine ({join_first_names(patchers)}), and the request skips such machines"
        if patchers
        else ""
    )


def check_auto_updaters(
    packages: PackageState, policy: OthersPolicy = "patch", *, paused: bool = False
) -> Iterable[Finding]:
    """Yield a finding about each updater that may act by itself. With the policy "fail", those that install block.

    It is a remark: an updater is there at each run, and two transactions wait for each other.
    """
    patchers = find_other_patchers(packages, paused=paused)
    for name, seconds in packages.auto_updaters:
        time = "at any time" if seconds is None else f"in {format_duration(max(0.0, seconds))}"
        is_pausable = name not in packages.unpausable_updaters
        if paused and is_pausable and seconds != 0:  # an active updater is not paused: the installation waits for it
            yield Finding.good(
                AUTO_UPDATER_CHECK, f"{name} would act by itself {time}; it is paused before anything is installed"
            )
            continue
        remedy = "Disable it, or move its time out of the window."
        remedy = (
            f"Let fleetpatch pause it (native_updaters: pause). {remedy}"
            if is_pausable
            else f"{remedy} No run pauses it."
        )
        if policy == "fail" and name in patchers:
            message = f"{name} may install updates by itself {time}, and the request refuses machines that others patch"
            remedy = f"{remedy} Or leave the machine to it (patched_by_others: skip)."
            yield Finding.block(AUTO_UPDATER_CHECK, message, remedy)
            continue
        yield Finding.remark(
            AUTO_UPDATER_CHECK, f"{name} may install updates or lock the package manager by itself {time}", remedy
        )


PACKAGES_CHECK = "packages"
"""The check of the package manager's state."""
REPAIR_REMEDY = "Run again with --repair (repair: true): it finishes what was interrupted. Or finish it on the machine."
FAILED_SCRIPT_REMEDY = (
    "Correct on the machine what makes it fail, and finish it there, or then run with --repair (repair: true)."
)
_NOT_HEALTHY = "the package manager is not healthy"
_BEFORE = "before the installation"
_OWN_REPAIR = "Repair it on the machine, as these words say."
_FAILED_SCRIPTS_CHECK = "failed-scripts"
PACKAGE_LOCK_CHECK = "package-lock"
"""The check of other processes that use the package manager."""
PENDING_REBOOT_CHECK = "pending-reboot"
"""The check for a reboot that was pending before the run. A reboot in the run removes the warning."""
SELF_RESTART_CHECK: Final = "self-restart"
"""The check whether the system restarts the machine by itself."""
REPOSITORIES_CHECK = "repositories"
"""The check of the package repositories."""


def check_packages(
    packages: PackageState,
    repair_allowed: bool,
    *,
    updaters_paused: bool = False,
    patched_by_others: OthersPolicy = "patch",
) -> tuple[Finding, ...]:
    """Return findings about the package manager's state before patching."""
    findings = [
        *check_package_problems(packages, repair_allowed=repair_allowed),
        *_check_package_lock(packages),
        *check_auto_updaters(packages, patched_by_others, paused=updaters_paused),
    ]
    findings += check_known_faults(packages)
    if packages.reboot.answer is YesNoUnknown.YES:
        reason = f" ({packages.reboot.explanation})" if packages.reboot.explanation else ""
        remedy = "Reboot it, or let this run do it: updates then take effect on a known state."
        findings.append(Finding.warn(PENDING_REBOOT_CHECK, f"a reboot is pending already{reason}", remedy))
    findings += _check_held_packages(packages)
    return tuple(findings) or (Finding.good(PACKAGES_CHECK, "the package manager is healthy and free"),)


def check_known_faults(packages: PackageState) -> tuple[Finding, ...]:
    """Return warnings about packages that are not set up, and about repositories. An assessment tells them, too."""
    remedy = "Correct on the machine what makes the script fail, and install the same version of the package again."
    failed = join_first_names(packages.failed_scripts)
    of_scripts = (Finding.warn(_FAILED_SCRIPTS_CHECK, failed, remedy),) if failed else ()
    # they do not block: the updates of the other repositories can be installed
    remedy = "Correct it on the machine, or consider it when you select updates."
    unread = []
    for problem in packages.repository_problems:
        hidden = "what it fixes is not known" if problem.hides_fixes else "it has no security fixes"
        message = f"not read ({hidden}): {problem}"
        if not problem.repository and problem.hides_fixes:
            message = f"fixes are not seen: {problem}"
        unread.append(Finding.warn(REPOSITORIES_CHECK, message, problem.remedy))
    return (
        *of_scripts,
        *unread,
        *(Finding.warn(REPOSITORIES_CHECK, warning, remedy) for warning in packages.warnings),
        *(Finding.remark(REPOSITORIES_CHECK, remark) for remark in packages.remarks),
        *(Finding.remark(PACKAGES_CHECK, remark) for remark in packages.package_remarks),
    )


def prevents_installation(packages: PackageState) -> bool:
    """Return whether packages are broken in a way that no update can be installed beside."""
    return bool(packages.problems) and not packages.can_install_others


def check_package_problems(packages: PackageState, *, repair_allowed: bool) -> Iterable[Finding]:
    """Yield a finding if packages are broken. It blocks only if nothing can be installed beside them."""
    if not packages.problems:
        return
    message = f"{_NOT_HEALTHY}: {join_first_names(packages.problems)}"
    if packages.repairable and repair_allowed:
        remedy = "Nothing to do: it is repaired first, as the request allows."
        yield Finding.remark(PACKAGES_CHECK, message, remedy)
    elif packages.can_install_others:
        yield Finding.warn(PACKAGES_CHECK, message, get_repair_remedy(packages))
    else:
        yield Finding.block(PACKAGES_CHECK, message, get_repair_remedy(packages))


def get_repair_remedy(packages: PackageState) -> str:
    """Return what a person does about broken packages."""
    if not packages.repairable:
        return _OWN_REPAIR
    if packages.interrupted:
        return REPAIR_REMEDY
    return FAILED_SCRIPT_REMEDY if packages.can_install_others else _OWN_REPAIR


def _check_held_packages(packages: PackageState) -> Iterable[Finding]:
    """Yield a remark about holds. A person decided them, and compliance tells what they prevent."""
    held_updates = [update for update in packages.updates if update.held or update.name in packages.held]
    urgent = sorted(update.name for update in held_updates if update.classification.is_urgent)
    if urgent:
        yield Finding.remark("held", f"on hold although security updates are available: {join_first_names(urgent)}")
    elif held_updates or packages.held:
        names = sorted({*packages.held, *(update.name for update in held_updates)})
        yield Finding.remark("held", f"on hold, so not updated: {join_first_names(names)}")


def check_given_up(packages: PackageState, chosen: Sequence[Update]) -> Iterable[Finding]:
    """Yield a warning about security updates that are not tried again because their last tries failed."""
    untried = {u.name for u in packages.updates if u.given_up and u.classification.is_urgent}
    untried -= {update.name for update in chosen}
    if untried:
        names = join_first_names(sorted(untried))
        remedy = f"Find out why they fail, with the error in the reason of each; {TRY_AGAIN}."
        yield Finding.warn("given-up", f"security updates are left, as their last tries failed: {names}", remedy)


def check_self_restarts(packages: PackageState, chosen: Sequence[Update], *, forbidden: bool) -> Iterable[Finding]:
    """Yield a finding if the system may restart the machine by itself, which it does when a reboot is pending.

    ``forbidden``: the request promises no restart. Where a lasting reason breaks that, nothing is installed.
    """
    if not packages.self_restarts:
        return
    message = f"it may restart by itself: {'; '.join(restart.reason for restart in packages.self_restarts)}"
    may_wait = packages.reboot.answer is not YesNoUnknown.NO or any(u.requires_reboot is not False for u in chosen)
    if not may_wait:
        yield Finding.remark(SELF_RESTART_CHECK, message)
    elif forbidden and chosen and any(restart.is_lasting for restart in packages.self_restarts):
        remedy = "Let the run reboot it (reboot: IfRequired), or take the machine out of what restarts it."
        yield Finding.block(SELF_RESTART_CHECK, f"{message}; the request says reboot: Never", remedy)
    else:
        remedy = "Reboot it in the window, or take the machine out of what restarts it."
        yield Finding.warn(SELF_RESTART_CHECK, message, remedy)


def block_server_deadlines(packages: PackageState) -> PackageState:
    """Return the state for a run that reboots nothing: updates with a deadline are blocked, as it restarts for them."""
    updates = tuple(
        replace(update, blocked=f"it {describe_server_deadline(update.server_deadline)}, and reboot is Never")
        if update.server_deadline and update.requires_reboot is not False and not update.blocked
        else update
        for update in packages.updates
    )
    return replace(packages, updates=updates)


def describe_server_deadline(deadline: datetime) -> str:
    """Return what a deadline of the update server means: "has a deadline, …"."""
    return f"has a deadline on its update server: the machine restarts for it from {deadline:%Y-%m-%d %H:%M} UTC on"


def _check_package_lock(packages: PackageState) -> Iterable[Finding]:
    """Yield warnings about other processes. They do not block: package managers wait for the lock."""
    unjudged = "whether they are whole was not checked"
    if packages.lock_holder:
        remedy = "Let it finish. Never end it by force: that leaves packages half-installed."
        message = f"the package manager is in use by {packages.lock_holder}"
        if packages.at_work == packages.lock_holder:
            message += f", which changes packages: {unjudged}"
        yield Finding.warn(PACKAGE_LOCK_CHECK, message, remedy)
    if packages.at_work and packages.at_work != packages.lock_holder:  # that process no longer holds the lock
        message = f"packages were changed by {packages.at_work} as they were read: {unjudged}"
        yield Finding.warn(
            PACKAGE_LOCK_CHECK, message, "Find out what changes packages on the machine, and let it finish."
        )


def clear_passed_warnings(findings: Iterable[Finding], after: PackageState | None) -> tuple[Finding, ...]:
    """Return the pre-check findings as they are true after the installation: what is over now is good.

    Packages that failed before, and still do, are told as they are now. The validation tells what the run broke.
    """
    if after is None or after.lock_holder or after.at_work:
        return tuple(findings)
    current = [still for finding in findings for still in _describe_now(finding, after)]
    passed = {PACKAGE_LOCK_CHECK, *(() if after.failed_scripts else (_FAILED_SCRIPTS_CHECK,))}
    return _mark_passed(current, passed, _BEFORE)


def _describe_now(finding: Finding, after: PackageState) -> Iterable[Finding]:
    if finding.check == SELF_RESTART_CHECK and finding.level is FindingLevel.WARN:
        return check_self_restarts(after, (), forbidden=False)
    if not finding.message.startswith(_NOT_HEALTHY):
        return (finding,)
    if not after.problems:
        return _mark_passed((finding,), {PACKAGES_CHECK}, _BEFORE)
    return check_package_problems(after, repair_allowed=False) if after.can_install_others else (finding,)


def clear_reverted_warnings(findings: Iterable[Finding], probes: Collection[str]) -> tuple[Finding, ...]:
    """Return the pre-check findings of a machine that was put back to a snapshot since.

    Those of its packages, and of its probes with these names, are good: its validation has looked at them again.
    """
    passed = {PACKAGES_CHECK, PACKAGE_LOCK_CHECK, _FAILED_SCRIPTS_CHECK, *probes}
    return _mark_passed(findings, passed, "before the revert")


def _mark_passed(findings: Iterable[Finding], checks: Collection[str], when: str) -> tuple[Finding, ...]:
    return tuple(
        Finding.good(finding.check, f"{when}: {finding.message}")
        if finding.check in checks and finding.level is FindingLevel.WARN
        else finding
        for finding in findings
    )


def check_concurrent_changes(packages: PackageState) -> tuple[Finding, ...]:
    """Return a warning when another process changed packages, so that they could not be checked."""
    if not packages.at_work:
        return ()
    message = f"packages could not be checked: they were being changed by {packages.at_work}"
    return (Finding.warn("packages", message, "Let it finish, then assess the machine and look at its packages."),)


def check_vendor_changes(updates: Sequence[Update]) -> tuple[Finding, ...]:
    """Return a warning about updates whose vendor differs from the vendor of the installed version."""
    changes = [
        f"{update.name} {update.available} ({update.vendor_change})" for update in updates if update.vendor_change
    ]
    if not changes:
        return ()
    remedy = "Exclude them, or give that repository a lower priority on the machine, if that is not wanted."
    return (
        Finding.warn(
            "vendor", f"updates come from another vendor than what is installed: {join_first_names(changes)}", remedy
        ),
    )


def check_kept_files(kept: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return a warning about configuration files that an update did not replace because they were edited.

    ``kept`` maps a path to the path of the update's version; "" when unknown.
    """
    if not kept:
        return ()
    files = [f"{path} (the update's version: {new})" if new else path for path, new in kept.items()]
    remedy = "Compare the two, copy what is needed, and delete the update's version."
    return (Finding.warn("configuration-files", f"kept as edited on the machine: {join_first_names(files)}", remedy),)


def check_errors(errors: Sequence[str]) -> tuple[Finding, ...]:
    """Return a warning about errors of transactions that name none of their updates: of a hook, or a plugin."""
    if not errors:
        return ()
    message = f"a transaction ended with an error that names none of its updates: {'; '.join(errors[:5])}"
    return (Finding.warn("transaction", message, "Read the output of its job, and repair that on the machine."),)


_MAX_NAMES_SHOWN = 3


def describe_live_patching(live: LivePatching | None) -> str:
    """Return the provider, its state and patches, the number of CVEs, and what is lacking; "" without live patches."""
    if live is None:
        return ""
    names = join_first_names(live.patches, _MAX_NAMES_SHOWN) if live.patches else ""
    parts = [f"{live.provider}: {live.state}", names]
    if live.cves:
        parts.append(f"fixes {len(live.cves)} CVE{'s' * (len(live.cves) != 1)}")
    if live.unfixed_cves:
        parts.append(f"a newer kernel also fixes {join_first_names(live.unfixed_cves, _MAX_NAMES_SHOWN)}")
    if live.problem:
        parts.append(f"problem: {live.problem}")
    return "; ".join(filter(None, parts))
