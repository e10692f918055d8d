"""The checks before an installation: clock, disk, packages, pending reboot, and one machine under two names. Pure.

Two names are one machine only if everything is equal: the id of the installation (machine-id(5), the MachineGuid of
Windows), the id of the boot, and on Linux also the start of the first process. A clone has the same id of the
installation, and another boot. Containers have their host's boot, and another start, whatever their ids are. An id
that can't be read says nothing.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.assessment import ErrorInfo
from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import Assessment, Disk, Facts, Finding, PackageState, RebootNeed, Update
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.machine_checks.findings import (
    CHECKS_BY_ERROR_KIND,
    build_failure_findings,
    build_passed_findings,
    drop_contradicted,
)
from tasks.rules.machine_checks.packages import (
    PENDING_REBOOT_CHECK,
    OthersPolicy,
    check_given_up,
    check_packages,
    check_self_restarts,
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
    patched_by_others: OthersPolicy = "patch",
    kernel_removal: str = "",
    may_reboot: bool = True,
    forbids_restarts: bool = False,
) -> list[Finding]:
    """Return findings about a machine's state before the chosen updates are installed. Pure.

    ``reboot_due`` says why the run does a pending reboot after the installation although live patches mitigate it, or
    "". ``kernel_removal`` is the command that removes kernels that are no longer used, or "". ``may_reboot``: the
    policy is not Never. ``forbids_restarts``: it is, and the run installs.
    """
    download = sum(update.size_bytes or 0 for update in chosen)
    of_packages = check_packages(
        packages, repair_allowed=repair, updaters_paused=updaters_paused, patched_by_others=patched_by_others
    )
    return [
        *find_relevant_settings(facts, chosen),
        check_clock(facts.clock_skew_seconds, facts.clock_error_seconds),
        *check_disk_space(
            facts,
            download_bytes=download,
            updates=chosen,
            kernel_removal=kernel_removal,
            remounted=packages.remounted,
        ),
        *check_vendor_changes(chosen),
        *check_given_up(packages, chosen),
        *check_self_restarts(packages, chosen, forbidden=forbids_restarts),
        # _check_pending_reboot reports it, with the action of this run
        *(finding for finding in of_packages if finding.check != PENDING_REBOOT_CHECK),
        _check_pending_reboot(
            packages.reboot, first=reboot_first, may_wait=reboot_may_wait, due=reboot_due, may_reboot=may_reboot
        ),
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


def keep_true_boot_warnings(findings: Iterable[Finding], after: Facts) -> tuple[Finding, ...]:
    """Return the findings without warnings of the next boot that are true no more: the run has mended that."""
    still = find_next_boot_warnings(after)
    return tuple(finding for finding in findings if finding.check != NEXT_BOOT_CHECK or finding in still)


def _check_pending_reboot(need: RebootNeed, *, first: bool, may_wait: bool, due: str, may_reboot: bool) -> Finding:
    reasons = need.explanation
    if need.answer is YesNoUnknown.NO:
        message = "no reboot is pending"
    elif need.answer is YesNoUnknown.UNKNOWN:
        return Finding.remark(PENDING_REBOOT_CHECK, f"the machine can't tell whether a reboot is pending: {reasons}")
    elif may_wait:
        message = f"a reboot is pending, and may wait: {reasons}"
    elif first:
        message = f"the pending reboot is done first: {reasons}"
    elif due:
        message = f"a reboot is pending: {reasons}; {due}"
    else:
        remedy = "Reboot it, or allow fleetpatch to do pending reboots first."
        build = Finding.warn if may_reboot else Finding.remark  # the owner has decided that runs reboot nothing
        return build(PENDING_REBOOT_CHECK, f"a reboot was pending already: {reasons}", remedy)
    return Finding.good(PENDING_REBOOT_CHECK, message)


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
        return Finding.warn(
            "clock",
            f"the clock can't be compared with the controller's: the machine took {slow} to answer",
            "Find out why the machine or the connection is slow, and assess again.",
        )
    if apart <= _SKEW_WARN_SECONDS:
        return Finding.good("clock", "the clock agrees with the controller's")
    if least <= _SKEW_WARN_SECONDS:
        exactness = f"to {format_duration(most)}, as exactly as a slow answer tells"
        return Finding.good("clock", f"the clock agrees with the controller's {exactness}")
    way = "ahead of" if skew_seconds > 0 else "behind"
    message = f"the clock is {format_duration(apart)} {way} the controller's"
    remedy = "Let the machine's clock be set from a time server, and see that the controller's is."
    if least > _SKEW_BLOCK_SECONDS:
        return Finding.block(
            "clock", f"{message}: too far for certificates and signatures to be checked reliably", remedy
        )
    return Finding.warn("clock", f"{message}; deadlines given to the machine are corrected by that", remedy)


def check_assessment(assessment: Assessment) -> tuple[Finding, ...]:
    """Return the findings of an assessment. Pure: an old assessment works too."""
    if assessment.error is not None or assessment.facts is None or assessment.packages is None:
        error = assessment.error or ErrorInfo.from_error(ProtocolViolation("the machine did not answer completely"))
        return build_failure_findings(CHECKS_BY_ERROR_KIND.get(error.kind, "facts"), error)
    return drop_contradicted((*build_passed_findings("clock"), *_check_state(assessment.facts, assessment.packages)))


def _check_state(facts: Facts, packages: PackageState) -> tuple[Finding, ...]:
    findings = check_machine_state(facts, packages, packages.updates)
    if not packages.updates:
        findings += check_writable((disk for disk in facts.disks if disk.role != "boot"), packages.remounted)
    findings += [finding for finding in facts.findings if finding not in findings]
    if not facts.can_reboot:
        remedy = "Restart it from its host when an update asks for that, and patch it with --reboot Never."
        findings.append(Finding.remark(PENDING_REBOOT_CHECK, "it can't reboot itself: its host has to", remedy))
    return tuple(findings)


_MIB_BYTES = 1024**2
MAX_RESERVE_BYTES = 200 * _MIB_BYTES  # in addition to downloads: for unpacked files, package lists and logs
_MIN_RESERVE_BYTES = 32 * _MIB_BYTES
RESERVE_FACTOR = 4  # unpacked files are about 4 times as large as their packages
_DOWNLOAD_FACTOR = 1.2  # package lists and partial files need space in addition to the packages
_BOOT_UPDATE_BYTES = 150 * _MIB_BYTES  # one more kernel with its boot image
_MIN_FREE_FILES = 1000
_FREE_SPACE_REMEDIES = {
    "boot": "Remove kernels that are no longer used",
    "packages": "Empty the package manager's cache",
    "system": "Remove what is not needed",
}


@dataclass(frozen=True, slots=True)
class _SpaceNeed:
    own_bytes: int
    reserve_bytes: int
    purpose: str


def check_disk_space(
    facts: Facts,
    download_bytes: int | None,
    updates: Sequence[Update],
    *,
    kernel_removal: str = "",
    remounted: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Return findings about whether every file system is writable and has the space that the updates need.

    ``download_bytes`` are those that are not downloaded yet (None: the known sizes of the updates). ``kernel_removal``
    is the command that removes kernels that are no longer used, if one is certain to. ``remounted``: see PackageState.
    """
    if not updates:
        return ()
    if not facts.disks:
        return (Finding.warn("disk", "nothing is known about this machine's disks", "Look at its free room by hand."),)
    fetch = sum(update.size_bytes or 0 for update in updates) if download_bytes is None else download_bytes
    are_sizes_known = all(update.size_bytes is not None for update in updates)
    reserve = (
        min(
            MAX_RESERVE_BYTES,
            max(_MIN_RESERVE_BYTES, RESERVE_FACTOR * sum(update.size_bytes or 0 for update in updates)),
        )
        if are_sizes_known
        else MAX_RESERVE_BYTES
    )
    needs = {
        "packages": _SpaceNeed(round(fetch * _DOWNLOAD_FACTOR), reserve, "downloading the updates"),
        "system": _SpaceNeed(0, reserve, "unpacking the updates"),
    }
    booted = next((update.name for update in updates if update.changes_boot), "")
    if booted or any(update.requires_reboot for update in updates):
        needs["boot"] = _SpaceNeed(_BOOT_UPDATE_BYTES, 0, f"installing {booted or 'what asks for a reboot'}")
    mounts: dict[str, list[Disk]] = {}
    for disk in facts.disks:
        if disk.role in needs:  # updates write nothing to other disks
            mounts.setdefault(disk.mount, []).append(disk)
    findings = [
        finding
        for disks in mounts.values()
        for finding in (
            *check_writable(disks, remounted),
            *(() if disks[0].read_only else _check_mount_space(disks, needs, kernel_removal)),
        )
    ]
    if "boot" not in needs:  # whether a package has files there is only known of kernels
        boot = [disk for disk in facts.disks if disk.role == "boot" and disk.mount not in mounts]
        remedy = "Mount it writable before a kernel or a boot loader is updated."
        findings += [Finding.remark("disk", finding.message, remedy) for finding in check_writable(boot, remounted)]
    return tuple(findings) or (Finding.good("disk", "there is room enough"),)


def check_writable(disks: Iterable[Disk], remounted: Collection[str] = ()) -> tuple[Finding, ...]:
    """Return a blocking finding for each read-only file system that no hook mounts writable (``remounted``)."""
    remedy = (
        "Find out why (often a disk error), repair that, and mount it writable. If it is to be read-only, let hooks of "
        "the package manager mount it writable while packages change."
    )
    mounts = dict.fromkeys(disk.mount for disk in disks if disk.read_only and not {disk.mount, "*"} & set(remounted))
    return tuple(Finding.block("disk", f"{mount} is mounted read-only", remedy) for mount in mounts)


def _check_mount_space(
    disks: Sequence[Disk], needs: Mapping[str, _SpaceNeed], kernel_removal: str
) -> Iterable[Finding]:
    """Check one file system. The needs of its roles add up; the reserve counts once."""
    disk = disks[0]
    roles = sorted({disk_part.role for disk_part in disks})
    own_bytes, reserve = sum(needs[role].own_bytes for role in roles), max(needs[role].reserve_bytes for role in roles)
    if disk.free_bytes < own_bytes + reserve:
        parts = [_format_size(own_bytes)] * bool(own_bytes) + [f"a reserve of {_format_size(reserve)}"] * bool(reserve)
        purposes = " and ".join(needs[role].purpose for role in roles)
        message = f"{disk.mount} has {_format_size(disk.free_bytes)} free; {purposes} needs {' and '.join(parts)}"
        commands = {"boot": f": {kernel_removal}" if kernel_removal else ""}
        remedies = [f"{_FREE_SPACE_REMEDIES[role]}{commands.get(role, '')}." for role in roles]
        yield Finding.block("disk", message, " ".join((*remedies, "Or enlarge that file system.")))
    if disk.free_files is not None and disk.free_files < _MIN_FREE_FILES:
        message = f"{disk.mount} has room for only {disk.free_files} more files; {_MIN_FREE_FILES} are needed"
        yield Finding.block("disk", message, "Look for directories with very many small files and clear them.")


def check_mounts_writable(before: Sequence[Disk], after: Sequence[Disk]) -> tuple[Finding, ...]:
    """Return a blocking finding for each file system that was writable before and is read-only now.

    A mount point is compared with itself. A new mount point is compared with the earlier disk of the same role. A file
    system that was read-only before does not count.
    """
    was = {disk.mount: disk.read_only for disk in before}
    by_role = {disk.role: disk.read_only for disk in before}
    turned = {d.mount for d in after if d.read_only and not was.get(d.mount, by_role.get(d.role, True))}
    remedy = "Look at the system's log for why (often a disk error), repair that, and mount it writable."
    return tuple(
        Finding.block("disk", f"{mount} is mounted read-only, and was writable before", remedy)
        for mount in sorted(turned)
    )


def check_default_routes(before: Facts, after: Facts) -> tuple[Finding, ...]:
    """Return a warning for the default routes that a machine had before the run and has no more."""
    after_routes = after.default_routes
    lost = [family for family in before.default_routes or () if after_routes is None or family not in after_routes]
    if not lost:
        return ()
    families = " and ".join(lost)
    if after_routes is None:
        message = f"whether its default route ({families}) is still there could not be read"
        return (Finding.warn("network", message, "Look at its routes: ip route, ip -6 route."),)
    message = f"it has no default route any more ({families}), and had one before: it reaches only its own networks"
    remedy = "Look at its network service's log and its configuration, and set the route again: ip route, ip -6 route."
    return (Finding.warn("network", message, remedy),)


def _format_size(size: int) -> str:
    if size < 10 * 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < _MIB_BYTES else f"{size / _MIB_BYTES:.0f} MiB"


SAME_MACHINE_CHECK: Final = "same machine"
"""The check for a machine with two names."""
SAME_MACHINE_REMEDY: Final = "Remove one of the two names from the inventory."


def build_instance_id(*parts: str) -> str:
    """Return the id of a machine in its present boot; "" if a part is not known.

    It is a hash, because the id of an installation must not be told to others (machine-id(5)).
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] if all(parts) else ""


def describe_same_machine(other_name: str) -> str:
    """Return in words that a machine is in the run under another name."""
    return f"the same machine as {other_name}, which this run has already"


def check_same_machine(other_name: str, *, changes_machines: bool) -> tuple[Finding, ...]:
    """Return a finding for a machine that the run has met under another name before; () without such a name.

    If the run changes machines, the second name has to be left out.
    """
    if not other_name:
        return ()
    build = Finding.block if changes_machines else Finding.warn
    return (build(SAME_MACHINE_CHECK, describe_same_machine(other_name), SAME_MACHINE_REMEDY),)
