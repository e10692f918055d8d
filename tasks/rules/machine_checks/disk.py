"""The checks of file systems: enough free space before patching, still writable after it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.domain.model import Disk, Facts, Finding, Update
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding, build_warning

_MIB_BYTES = 1024**2
_MAX_RESERVE_BYTES = 200 * _MIB_BYTES  # in addition to downloads: for unpacked files, package lists and logs
_MIN_RESERVE_BYTES = 32 * _MIB_BYTES
_RESERVE_FACTOR = 4  # unpacked files are about 4 times as large as their packages
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
    installed_bytes_delta: int = 0,
    kernel_removal: str = "",
) -> tuple[Finding, ...]:
    """Return findings about whether every file system has the space that the updates need.

    ``download_bytes`` are those that are not downloaded yet (None: the known sizes of the updates),
    ``installed_bytes_delta`` is the growth of the installed files. ``kernel_removal`` is the command that removes
    kernels that are no longer used, if one is certain to.
    """
    if not updates:
        return ()
    if not facts.disks:
        return (build_warning("disk", "nothing is known about this machine's disks", "Look at its free room by hand."),)
    fetch = sum(update.size_bytes or 0 for update in updates) if download_bytes is None else download_bytes
    are_sizes_known = all(update.size_bytes is not None for update in updates)
    reserve = (
        min(
            _MAX_RESERVE_BYTES,
            max(_MIN_RESERVE_BYTES, _RESERVE_FACTOR * sum(update.size_bytes or 0 for update in updates)),
        )
        if are_sizes_known
        else _MAX_RESERVE_BYTES
    )
    needs = {
        "packages": _SpaceNeed(round(fetch * _DOWNLOAD_FACTOR), reserve, "downloading the updates"),
        "system": _SpaceNeed(max(0, installed_bytes_delta), reserve, "unpacking the updates"),
    }
    booted = next((update.name for update in updates if update.changes_boot), "")
    if booted or any(update.requires_reboot for update in updates):
        needs["boot"] = _SpaceNeed(_BOOT_UPDATE_BYTES, 0, f"installing {booted or 'what asks for a reboot'}")
    mounts: dict[str, list[Disk]] = {}
    for disk in facts.disks:
        if disk.role in needs:  # updates write nothing to other disks
            mounts.setdefault(disk.mount, []).append(disk)
    findings = [finding for disks in mounts.values() for finding in _check_mount_space(disks, needs, kernel_removal)]
    return tuple(findings) or (build_good_finding("disk", "there is room enough"),)


def _check_mount_space(
    disks: Sequence[Disk], needs: Mapping[str, _SpaceNeed], kernel_removal: str
) -> Iterable[Finding]:
    """Check one file system. The needs of its roles add up; the reserve counts once."""
    disk = disks[0]
    roles = sorted({disk_part.role for disk_part in disks})
    if disk.read_only:
        remedy = "Find out why (often a disk error), repair that, and mount it writable."
        yield build_blocker("disk", f"{disk.mount} is mounted read-only", remedy)
        return
    own, reserve = sum(needs[role].own_bytes for role in roles), max(needs[role].reserve_bytes for role in roles)
    if disk.free_bytes < own + reserve:
        parts = [_format_size(own)] * bool(own) + [f"a reserve of {_format_size(reserve)}"] * bool(reserve)
        purposes = " and ".join(needs[role].purpose for role in roles)
        message = f"{disk.mount} has {_format_size(disk.free_bytes)} free; {purposes} needs {' and '.join(parts)}"
        commands = {"boot": f": {kernel_removal}" if kernel_removal else ""}
        remedies = [f"{_FREE_SPACE_REMEDIES[role]}{commands.get(role, '')}." for role in roles]
        yield build_blocker("disk", message, " ".join((*remedies, "Or enlarge that file system.")))
    if disk.free_files is not None and disk.free_files < _MIN_FREE_FILES:
        message = f"{disk.mount} has room for only {disk.free_files} more files; {_MIN_FREE_FILES} are needed"
        yield build_blocker("disk", message, "Look for directories with very many small files and clear them.")


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
        build_blocker("disk", f"{mount} is mounted read-only, and was writable before", remedy)
        for mount in sorted(turned)
    )


def _format_size(size: int) -> str:
    if size < 10 * 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < _MIB_BYTES else f"{size / _MIB_BYTES:.0f} MiB"
