"""Paths: expands ``~``, finds the user's folders and the files that a command reads by default, makes private ones."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs

from inventory.errors import FleetpatchError, InventoryError

_MAX_PATH_BYTES = 4096


def expand_home(path: Path, error_type: type[FleetpatchError] = InventoryError) -> Path:
    """Return a path with ``~`` expanded.

    Args:
        path: the path as written.
        error_type: the class of the error.

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
    """Return a folder of the user.

    Args:
        find_directory: a function of platformdirs.
        error_type: the class of the error.
        remedy: the hint for a user without a home directory.

    Raises:
        FleetpatchError: the user has no home directory, for example a container user without HOME.
    """
    try:
        return find_directory("fleetpatch")
    except RuntimeError as fault:
        raise error_type("this user has no home directory", hint=f"Set HOME, or {remedy}.") from fault


def find_working_directory() -> Path:
    """Return the working directory.

    Raises:
        InventoryError: the directory was removed.
    """
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
