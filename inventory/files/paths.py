"""Paths: expands ``~``, finds the user's folders and files, makes private ones, says why nothing can be written."""

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import platformdirs

from inventory.data_class import dataclass
from inventory.errors import FleetpatchError, InventoryError

_MAX_PATH_BYTES = 4096


def expand_home(path: Path, error_type: type[FleetpatchError] = InventoryError) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        FleetpatchError: the home directory is unknown, or the path is invalid.
    """
    try:
        if "\0" in str(path) or len(os.fsencode(path)) >= _MAX_PATH_BYTES:
            raise ValueError
    except ValueError as fault:
        most = f"{_MAX_PATH_BYTES - 1:,} bytes"
        hint = f"Correct the path; it has at most {most}, of characters that a file's name may have."
        raise error_type(f"{str(path)[:60]!r} is no path of a file", hint=hint) from fault
    try:
        return path.expanduser()
    except RuntimeError as fault:
        raise error_type(
            f"{path}: it is not known where that home is", hint="Correct the user's name, or write the path out."
        ) from fault


def find_user_directory(find_directory: Callable[[str], Path], error_type: type[FleetpatchError], remedy: str) -> Path:
    """Return a folder of the user, by a function of platformdirs.

    Raises:
        FleetpatchError: the user has no home directory, for example a container user without HOME.
    """
    try:
        return find_directory("fleetpatch")
    except RuntimeError as fault:
        raise error_type("this user has no home directory", hint=f"Set HOME, or {remedy}.") from fault


def find_working_directory() -> Path:
    """Return the working directory. Raise InventoryError if the directory was removed."""
    try:
        return Path.cwd()
    except OSError as error:
        hint = "Change to a directory that exists, and give the path again."
        raise InventoryError("the current folder does not exist any more", hint=hint) from error


def find_named_or_default_path(
    explicit: Path | None,
    variable: str,
    default_names: Sequence[str],
    *,
    what: str,
    explicit_origin: str,
    remedy: str,
    build_missing_error: Callable[[list[Path]], InventoryError],
) -> Path:
    """Return a path that the user names, or else the first default path that exists.

    Args:
        explicit: the path from the user, or None.
        variable: the environment variable that may have the path.
        default_names: names in the working directory, and then in the user's configuration folder.
        what: what the path leads to, for the message.
        explicit_origin: where ``explicit`` was given, for the message.
        remedy: the hint for a user without a home directory.
        build_missing_error: returns the error if no default path exists in these folders.

    Raises:
        InventoryError: the named path does not exist, or there is no default path.
    """
    origin = f"named by {variable}" if explicit is None else explicit_origin
    if named := explicit or os.environ.get(variable):
        path = expand_home(Path(named))
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises when a name is too long
            raise InventoryError(f"there is no such {what}, {origin}", file=path, hint="Correct the path.")
        return path
    folders = [find_working_directory()]
    with suppress(InventoryError):  # a user without a home directory has no configuration folder
        folders.append(find_user_directory(platformdirs.user_config_path, InventoryError, remedy))
    for candidate in (folder / name for folder in folders for name in default_names):
        if candidate.exists():
            return candidate
    raise build_missing_error(folders)


def ensure_private_directory(directory: Path) -> None:
    """Create a directory and its missing parents with mode 0700, whatever the umask is.

    ``Path.mkdir`` gives its mode to the last one only.

    Raises:
        OSError: one of them can't be made.
    """
    for part in reversed((directory, *directory.parents)):
        if not part.is_dir():
            part.mkdir(mode=0o700, exist_ok=True)


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
        folder = next(filter(Path.is_dir, (place.absolute(), *place.absolute().parents)), Path("/"))
        if number == errno.EDQUOT:
            hint = f"Make room there (`quota -s` shows the limit), or {alternative}."
            return StorageFault(f"the quota of this user is used up at {folder}", hint)
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
    size = f"{_format_size(free)} of {_format_size(disk.f_blocks * disk.f_frsize)} are free"
    if free < FULL_BELOW_BYTES:
        hint = f"Make room there (df -h {folder} shows the disk), or {alternative}."
        return StorageFault(f"the disk of {folder} is full: {size}", hint)
    if number == errno.ENOSPC:
        hint = f"Try again; if it stays so, make room there, look at quotas (quota -s), or {alternative}."
        return StorageFault(f"the disk of {folder} is full: it took no more, although {size} now", hint)
    return None


def _format_size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
