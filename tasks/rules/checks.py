"""What facts mean before patching, and what services mean after it. Each rule gives its findings with a remedy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.model import Disk, Facts, Finding, PackageState, Services, Update
from tasks.rules.kinds import is_booted
from tasks.rules.listeners import failed_units, vanished
from tasks.rules.window import say_duration
from tasks.states import URGENT, Answer, FindingLevel

PACKAGES = "packages"
"""The check of the package manager's own state."""
REPAIR_REMEDY = "Run again with --repair (repair: true): it finishes what was interrupted. Or finish it on the machine."
LOCK = "package-lock"
"""The check of who has the package manager."""
PENDING_REBOOT = "pending-reboot"
"""The check that warns of a reboot that was pending before; a reboot in the run settles it."""
UPDATERS = "auto-updater"
"""The check of what installs updates by itself."""

_MIB = 1024**2
_MOST_RESERVE_BYTES = 200 * _MIB  # beside what is downloaded: for unpacked files, lists and logs
_LEAST_RESERVE_BYTES = 32 * _MIB
_RESERVE_FACTOR = 4  # unpacked files are about so many times as large as their packages
_DOWNLOAD_FACTOR = 1.2  # package lists and part files come on top of the packages
_BOOT_BYTES = 150 * _MIB  # one more kernel with its first file system
_INODES = 1000
_SKEW_WARN_SECONDS = 5.0
_SKEW_BLOCK_SECONDS = 300.0  # signatures and Kerberos tickets stop being valid about here

_ROOM = {
    "boot": "Remove kernels that are no longer used.",
    "packages": "Empty the package manager's cache.",
    "system": "Remove what is not needed.",
}


@dataclass(frozen=True, slots=True)
class _Need:
    own_bytes: int
    reserve_bytes: int
    purpose: str


def disk_findings(
    facts: Facts,
    download_bytes: int | None,
    updates: Sequence[Update],
    *,
    installed_bytes_delta: int = 0,
) -> tuple[Finding, ...]:
    """Return whether every file system has the room that these updates need.

    Args:
        facts: with the machine's disks.
        download_bytes: still to be fetched; None: the updates' known sizes are added up.
        updates: what is chosen.
        installed_bytes_delta: by how much installed files grow, where the package manager can tell.
    """
    if not updates:
        return ()
    if not facts.disks:
        return (_warn("disk", "nothing is known about this machine's disks", "Look at its free room by hand."),)
    fetch = sum(update.size_bytes or 0 for update in updates) if download_bytes is None else download_bytes
    known = all(update.size_bytes is not None for update in updates)
    reserve = _reserve(sum(update.size_bytes or 0 for update in updates)) if known else _MOST_RESERVE_BYTES
    needs = {
        "packages": _Need(round(fetch * _DOWNLOAD_FACTOR), reserve, "downloading the updates"),
        "system": _Need(max(0, installed_bytes_delta), reserve, "unpacking the updates"),
    }
    booted = next((update.name for update in updates if is_booted(update)), "")
    if booted or any(update.requires_reboot for update in updates):
        needs["boot"] = _Need(_BOOT_BYTES, 0, f"installing {booted or 'what asks for a reboot'}")
    mounts: dict[str, list[Disk]] = {}
    for disk in facts.disks:
        if disk.role in needs:  # nothing is written to the others
            mounts.setdefault(disk.mount, []).append(disk)
    found = [finding for disks in mounts.values() for finding in _mount_findings(disks, needs)]
    return tuple(found) or (_good("disk", "there is room enough"),)


def _reserve(package_bytes: int) -> int:
    """Return the room that is kept free beside the downloads, for packages of that size."""
    return min(_MOST_RESERVE_BYTES, max(_LEAST_RESERVE_BYTES, _RESERVE_FACTOR * package_bytes))


def _mount_findings(disks: Sequence[Disk], needs: Mapping[str, _Need]) -> Iterable[Finding]:
    """Judge one file system, whatever roles it plays: their needs add up, the reserve is kept once."""
    disk = disks[0]
    roles = sorted({each.role for each in disks})
    if disk.read_only:
        remedy = "Find out why (often a disk error), mend that, and mount it writable."
        yield _block("disk", f"{disk.mount} is mounted read-only", remedy)
        return
    own, reserve = sum(needs[role].own_bytes for role in roles), max(needs[role].reserve_bytes for role in roles)
    if disk.free_bytes < own + reserve:
        parts = [_size(own)] * bool(own) + [f"a reserve of {_size(reserve)}"] * bool(reserve)
        purposes = " and ".join(needs[role].purpose for role in roles)
        message = f"{disk.mount} has {_size(disk.free_bytes)} free; {purposes} needs {' and '.join(parts)}"
        yield _block("disk", message, " ".join((*(_ROOM[role] for role in roles), "Or enlarge that file system.")))
    if disk.free_inodes is not None and disk.free_inodes < _INODES:
        message = f"{disk.mount} can hold only {disk.free_inodes} more files; {_INODES} are needed"
        yield _block("disk", message, "Look for directories with very many small files and clear them.")


def mount_findings(before: Sequence[Disk], after: Sequence[Disk]) -> tuple[Finding, ...]:
    """Return the file systems that were writable and are read-only now: each blocks.

    A mount point is compared with itself; one that was not there before, with what played its role then. What was
    read-only before is not held against the run.
    """
    was = {disk.mount: disk.read_only for disk in before}
    by_role = {disk.role: disk.read_only for disk in before}
    turned = {d.mount for d in after if d.read_only and not was.get(d.mount, by_role.get(d.role, True))}
    remedy = "Look at its kernel log and /etc/fstab for why (often a disk error), mend that, and mount it writable."
    return tuple(
        _block("disk", f"{mount} is mounted read-only, and was writable before", remedy) for mount in sorted(turned)
    )


def clock_finding(skew_seconds: float) -> Finding:
    """Return whether the machine's clock can be relied on. A positive skew means that it is ahead of ours.

    Jobs stop by the machine's own clock. fleetpatch takes the skew off, so a few seconds only need saying; a clock
    that is minutes off also breaks the checking of signatures and certificates.
    """
    apart = abs(skew_seconds)
    if apart <= _SKEW_WARN_SECONDS:
        return _good("clock", "the clock agrees with the controller's")
    way = "ahead of" if skew_seconds > 0 else "behind"
    message = f"the clock is {say_duration(apart)} {way} the controller's"
    remedy = "Let the machine's clock be set from a time server, and see that the controller's is."
    if apart > _SKEW_BLOCK_SECONDS:
        return _block("clock", f"{message}: too far for certificates and signatures to be checked reliably", remedy)
    return _warn("clock", f"{message}; deadlines given to the machine are corrected by that", remedy)


def package_findings(
    packages: PackageState,
    repair_allowed: bool,
    *,
    window_seconds: float | None = None,
    lock_level: FindingLevel = FindingLevel.WARN,
    updaters_rest: bool = False,
) -> tuple[Finding, ...]:
    """Return what the package manager's own state means for patching.

    Args:
        packages: what the package manager says.
        repair_allowed: whether fleetpatch may finish what was interrupted.
        window_seconds: time until the window ends; updaters of the system's own that act later don't matter.
            None: all of them matter.
        lock_level: what a lock held now means. Package managers wait for it, so it warns unless told otherwise.
        updaters_rest: whether updaters of the system's own are paused before anything is installed.
    """
    found = [
        *problem_findings(packages, repair_allowed=repair_allowed),
        *_lock_findings(packages, lock_level),
        *_updater_findings(packages, window_seconds, rest=updaters_rest),
    ]
    found += [_warn("repositories", words, "Correct or disable that repository.") for words in packages.warnings]
    if packages.reboot.answer is Answer.YES:
        why = f" ({'; '.join(packages.reboot.reasons)})" if packages.reboot.reasons else ""
        remedy = "Reboot it, or let this run do it: updates then take effect on a known state."
        found.append(_warn(PENDING_REBOOT, f"a reboot is pending already{why}", remedy))
    found += _held_findings(packages)
    return tuple(found) or (_good(PACKAGES, "the package manager is healthy and free"),)


def problem_findings(packages: PackageState, *, repair_allowed: bool) -> Iterable[Finding]:
    """Yield what broken packages mean for patching, if there are any."""
    if not packages.problems:
        return
    message = f"the package manager is not healthy: {_some(packages.problems)}"
    if not packages.repairable:
        yield _block(PACKAGES, message, "Mend it on the machine: finishing what was interrupted would not help.")
    elif not repair_allowed:
        yield _block(PACKAGES, message, REPAIR_REMEDY)
    else:
        remedy = "Nothing to do: what was interrupted is finished first, as the request allows."
        yield _warn(PACKAGES, message, remedy)


def _held_findings(packages: PackageState) -> Iterable[Finding]:
    """A hold is its administrator's wish and no fault, unless it keeps a security fix away."""
    held = [update for update in packages.updates if update.held or update.name in packages.held]
    urgent = sorted(update.name for update in held if update.classification in URGENT)
    if urgent:
        remedy = "Release the hold on the machine if it is no longer wanted; fleetpatch never does."
        yield _warn("held", f"held by its administrator in spite of security fixes: {_some(urgent)}", remedy)
    elif held or packages.held:
        names = sorted({*packages.held, *(update.name for update in held)})
        yield _good("held", f"held by its administrator, and left alone: {_some(names)}")


def _lock_findings(packages: PackageState, level: FindingLevel) -> Iterable[Finding]:
    unjudged = "whether they are whole was not judged"
    if packages.lock_holder:
        remedy = "Let it finish. Never end it by force: that leaves packages half-installed."
        message = f"the package manager is in use by {packages.lock_holder}"
        if packages.at_work == packages.lock_holder:
            message += f", which changes packages: {unjudged}"
        yield Finding(LOCK, level, message, remedy)
    if packages.at_work and packages.at_work != packages.lock_holder:  # who has changed them holds no lock any more
        message = f"packages were changed by {packages.at_work} as they were read: {unjudged}"
        yield Finding(LOCK, level, message, "Find out what changes packages on the machine, and let it finish.")


def lock_freed(findings: Iterable[Finding], after: PackageState | None) -> tuple[Finding, ...]:
    """Return findings of before the installation as they stand after it: who has left by then is no warning.

    Args:
        findings: of the pre-check.
        after: what the package manager said last; None when nobody looked.
    """
    if after is None or after.lock_holder or after.at_work:
        return tuple(findings)
    return tuple(
        _good(LOCK, f"before the installation: {each.message}")
        if each.check == LOCK and each.level is FindingLevel.WARN
        else each
        for each in findings
    )


def _updater_findings(packages: PackageState, window_seconds: float | None, *, rest: bool) -> Iterable[Finding]:
    for name, seconds in packages.auto_updaters:
        if seconds is not None and window_seconds is not None and seconds > window_seconds:
            continue
        when = "at any time" if seconds is None else f"in {say_duration(max(0.0, seconds))}"
        if rest and seconds != 0:  # what acts already is waited for, and worth a warning
            yield _good(UPDATERS, f"{name} would act by itself {when}; it is paused before anything is installed")
            continue
        remedy = "Have it paused (native_updaters: pause), disable it, or move its time out of the window."
        yield _warn(UPDATERS, f"{name} may install updates or take the lock by itself {when}", remedy)


def unjudged_findings(packages: PackageState) -> tuple[Finding, ...]:
    """Return a warning when packages could not be judged, since somebody was changing them; or nothing."""
    if not packages.at_work:
        return ()
    message = f"packages could not be judged: they were being changed by {packages.at_work}"
    return (_warn("packages", message, "Let it finish, then assess the machine and look at its packages."),)


def vendor_findings(updates: Sequence[Update]) -> tuple[Finding, ...]:
    """Return a warning of updates that somebody else publishes than what is installed."""
    changes = [
        f"{update.name} {update.available} ({update.vendor_change})" for update in updates if update.vendor_change
    ]
    if not changes:
        return ()
    remedy = "Exclude them, or give that repository a lower priority on the machine, if that is not wanted."
    return (_warn("vendor", f"updates come from another vendor than what is installed: {_some(changes)}", remedy),)


def conffile_findings(kept: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return a warning of configuration files that an update left as they are, for they were edited by hand.

    Args:
        kept: path -> where the update's own version lies; "" when that is not known.
    """
    if not kept:
        return ()
    files = [f"{path} (the update's version: {new})" if new else path for path, new in kept.items()]
    remedy = "Compare the two, take over what is needed, and delete the update's version."
    return (_warn("configuration-files", f"kept as edited on the machine: {_some(files)}", remedy),)


def service_findings(before: Services, after: Services) -> tuple[Finding, ...]:
    """Return what patching did to services: a unit that failed since, or a port that vanished, blocks.

    What was failed before is not held against the run, and what is new is welcome.
    """
    if not before.known or not after.known:
        remedy = "Give this machine probes of its own, so that its health can be told."
        return (_warn("services", "the machine has no way to tell which services run", remedy),)
    found: list[Finding] = []
    failed = failed_units(sorted(set(after.failed) - set(before.failed)))
    if failed:
        remedy = "Read their logs on the machine, mend and start them."
        found.append(_block("services", f"failed since patching: {_some(failed)}", remedy))
    gone = vanished(before, after)
    if gone:
        remedy = "Read the logs of the service that listened there, and start it."
        found.append(_block("ports", f"nothing listens any more on {_some(gone)}", remedy))
    return tuple(found) or (_good("services", "what ran before runs now"),)


def _good(check: str, message: str) -> Finding:
    return Finding(check, FindingLevel.GOOD, message)


def _warn(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, FindingLevel.WARN, message, remedy)


def _block(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, FindingLevel.BLOCK, message, remedy)


def _size(size: int) -> str:
    if size < 10 * 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < _MIB else f"{size / _MIB:.0f} MiB"


def _some(names: Sequence[str]) -> str:
    """Return the first few, and how many more there are."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
