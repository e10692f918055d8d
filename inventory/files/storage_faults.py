"""Why nothing can be written at a place: no space, no inode, a used-up quota, or a read-only file system."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from inventory.errors import FleetpatchError

FULL_BELOW_BYTES: Final = 1024 * 1024
"""With less free space, a write that failed for an unknown reason failed for want of space."""
STORAGE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_Error = TypeVar("_Error", bound=FleetpatchError)


@dataclass(frozen=True, slots=True)
class StorageFault:
    """Why nothing can be written, as a sentence without its end, and what to do."""

    reason: str
    hint: str


def find_storage_fault(
    *places: Path, number: int = 0, alternative: str = "choose another place"
) -> StorageFault | None:
    """Return why nothing can be written at a place; None if its disk is not the reason.

    Args:
        places: files or folders, which need not exist. The first one at fault is named.
        number: errno of the write that failed at the first place; 0 if it is not known.
        alternative: what a person can do besides making room, as the end of a sentence.
    """
    if number not in {0, *STORAGE_ERRNOS}:
        return None
    for place in places:
        folder = _find_existing_folder(place)
        if number == errno.EDQUOT:
            return StorageFault(
                f"the quota of this user is used up at {folder}",
                f"Make room there (`quota -s` shows the limit), or {alternative}.",
            )
        if fault := _describe_disk(folder, number, alternative):
            return fault
    return None


def find_temporary_folder() -> Path:
    """Return the folder of temporary files. Python's own function raises an error if nothing can be written there."""
    return Path(os.environ.get("TMPDIR") or Path(os.sep, "tmp"))


def build_storage_error(kind: type[_Error], message: str, fault: StorageFault) -> _Error:
    """Return an error of a kind that says that nothing can be written, and ends a command with the code for that."""
    error = kind(f"{message}: {fault.reason}", hint=fault.hint)
    error.is_storage_fault = True
    return error


def _find_existing_folder(place: Path) -> Path:
    candidates = (place.absolute(), *place.absolute().parents)
    return next((folder for folder in candidates if folder.is_dir()), Path("/"))


def _describe_disk(folder: Path, number: int, alternative: str) -> StorageFault | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    if number == errno.EROFS or (not number and disk.f_flag & os.ST_RDONLY):
        return StorageFault(
            f"the file system of {folder} is read-only",
            f"{alternative[0].upper()}{alternative[1:]}; in a unit, name it in ReadWritePaths=. A disk that became "
            "read-only by itself has a fault: look at the system log.",
        )
    if disk.f_files and not disk.f_favail:
        return StorageFault(
            f"the disk of {folder} has no inode for another file: 0 of {disk.f_files:,} are free",
            f"Delete files there (df -i {folder} shows the inodes), or {alternative}.",
        )
    free = disk.f_bavail * disk.f_frsize
    if number == errno.ENOSPC and free >= FULL_BELOW_BYTES:
        size = f"{_format_size(free)} of {_format_size(disk.f_blocks * disk.f_frsize)}"
        return StorageFault(
            f"the disk of {folder} is full: it took no more, although {size} are free now",
            f"Try again; if it stays so, make room there, look at quotas (quota -s), or {alternative}.",
        )
    if free < FULL_BELOW_BYTES:
        return StorageFault(
            f"the disk of {folder} is full: {_format_size(free)} of {_format_size(disk.f_blocks * disk.f_frsize)} "
            "are free",
            f"Make room there (df -h {folder} shows the disk), or {alternative}.",
        )
    return None


def _format_size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
