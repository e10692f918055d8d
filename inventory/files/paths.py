"""Paths: expands ``~`` and finds the user's folders."""

import os
from collections.abc import Callable
from pathlib import Path

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
