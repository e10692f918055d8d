"""Paths of files: fills in ``~``, and finds the user's own folders."""

import os
from collections.abc import Callable
from pathlib import Path

from inventory.errors import FleetpatchError, InventoryError

_MAX_PATH_BYTES = 4096


def expand_home(path: Path, error_type: type[FleetpatchError] = InventoryError) -> Path:
    """Return a path with ``~`` filled in.

    Args:
        path: as a person wrote it.
        error_type: what to raise.

    Raises:
        FleetpatchError: nobody knows whose home that is, or no file can have such a path.
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
    """Return the user's folder of a kind.

    Args:
        find_directory: one of platformdirs' functions.
        error_type: what to raise.
        remedy: for a user who has no home.

    Raises:
        FleetpatchError: the user has none: a made-up one of a container, without HOME.
    """
    try:
        return find_directory("fleetpatch")
    except RuntimeError as fault:
        raise error_type("this user has no home directory", hint=f"Set HOME, or {remedy}.") from fault
