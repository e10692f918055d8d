"""Directories of reports: private, made on demand, and looked at before a run rather than after it."""

import errno
import tempfile
from pathlib import Path
from typing import Final

from inventory.places import with_home
from tasks.errors import ReportError

_ELSEWHERE: Final = "Choose another directory."
_HINTS: Final = {
    errno.ENOSPC: "The disk is full: make room, then write the report again; the run itself is in the records.",
    errno.EDQUOT: "Your quota is used up: make room, then write the report again; the run itself is in the records.",
    errno.EACCES: "Choose a directory that this user may write to.",
    errno.EPERM: "Choose a directory that this user may write to.",
    errno.EROFS: "This file system is read-only: choose another directory.",
    errno.ENOTDIR: "A part of this path is a file: choose another directory.",
    errno.EEXIST: "There is a file where the report's directory should be: move it, or choose another directory.",
}


def check_place(directory: Path) -> None:
    """See to it that reports can be written into a directory, which is made when it is not there.

    Raises:
        ReportError: they can't. A run is told so before it begins, and not when it has ended.
    """
    place = with_home(directory, ReportError)
    try:
        make_private(place)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise translated(error, place) from error


def make_private(place: Path) -> None:
    """Make a directory, and those above it that are not there, for its owner alone."""
    for part in reversed((place, *place.parents)):
        if not part.is_dir():
            part.mkdir(mode=0o700, exist_ok=True)


def translated(error: OSError, place: Path) -> ReportError:
    """Return an error of the system as one that says what can be done."""
    where, hint = error.filename or place, _HINTS.get(error.errno or 0, _ELSEWHERE)
    return ReportError(f"the report can't be written to {where}: {error.strerror or error}", hint=hint)
