"""Finds and creates private directories for reports, and checks before a run that they are writable."""

import errno
import tempfile
from pathlib import Path
from typing import Final

import platformdirs

from inventory.files.paths import (
    build_storage_error,
    ensure_private_directory,
    expand_home,
    find_storage_fault,
    find_user_directory,
)
from tasks.domain.errors import ReportError

_PROBE_BYTES: Final = 256 * 1024
"""A small report."""
_DEFAULT_HINT: Final = "Choose another directory."
_ERRNO_HINTS: Final = {
    errno.EACCES: "Choose a directory that this user may write to.",
    errno.EPERM: "Choose a directory that this user may write to.",
    errno.ENOTDIR: "A part of this path is a file: choose another directory.",
    errno.EEXIST: "There is a file where the report's directory should be: move it, or choose another directory.",
}


def find_report_directory(asked: Path | None) -> Path:
    """Return the directory of reports: the requested one, or one in the user's data folder.

    Raises:
        ReportError: the user has no data folder.
    """
    if asked is not None:
        return asked
    return find_user_directory(platformdirs.user_data_path, ReportError, "name a directory for reports") / "reports"


def require_writable_directory(directory: Path) -> None:
    """Require that reports can be written into a directory. Create the directory if it does not exist.

    A run calls this before it begins, so that it does not fail at its end.

    Raises:
        ReportError: the directory is not writable.
    """
    home = expand_home(directory, ReportError)
    try:
        ensure_private_directory(home)
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(b"\0" * _PROBE_BYTES)  # a full disk takes an empty file
            probe.flush()
    except OSError as error:
        raise build_report_error(error, home) from error


def build_report_error(error: OSError, directory: Path) -> ReportError:
    """Return a ReportError with a hint for an OSError."""
    fault = find_storage_fault(Path(error.filename or directory), number=error.errno or errno.EIO)
    if fault is not None:
        message = f"the report can't be written to {error.filename or directory}"
        return build_storage_error(ReportError, message, fault)
    where, hint = error.filename or directory, _ERRNO_HINTS.get(error.errno or 0, _DEFAULT_HINT)
    return ReportError(f"the report can't be written to {where}: {error.strerror or error}", hint=hint)
