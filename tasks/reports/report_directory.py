"""Finds and creates private directories for reports, and checks before a run that they are writable."""

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
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


_GENERATION_FILE: Final = ".generation"
"""In the folder of a report: when the process that wrote it took its run, so that no older process replaces it."""
_HOLD_SECONDS: Final = 120.0
"""Longer than the records may let a process wait that asks them while it holds the folder."""
_POLL_SECONDS: Final = 0.05
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


@contextmanager
def hold_report_folder(folder: Path, generation: datetime | None) -> Iterator[int]:
    """Keep other processes from replacing files of a report inside a ``with`` block, and give the folder's descriptor.

    A process that was stopped inside its block, for longer than others wait, may wake up there at any time. So the
    folder that it holds is moved aside, and what it still renames stays in there.

    Args:
        folder: the folder of the report of one run. It exists.
        generation: when this process took its run; None: it has no run, and what it writes is what the records have.

    Raises:
        ReportError: a process that has taken the run later has written the report.
        OSError: the folder can't be used.
    """
    descriptor = _lock_folder(folder)
    try:
        written = _read_generation(descriptor)
        if generation is not None and generation < written:
            raise ReportError(
                f"{folder} has the report of a process that took the run later, at {written:%Y-%m-%d %H:%M:%S} UTC",
                hint="It is kept: the records have its results.",
            )
        if generation is not None and generation > written:
            _write_generation(descriptor, generation)
        yield descriptor
    finally:
        os.close(descriptor)


def require_present_folder(folder: Path, descriptor: int) -> None:
    """Require that a folder was not moved aside while its files got their names.

    Raises:
        ReportError: it was, because that took this process too long.
    """
    if not _is_present(folder, descriptor):
        raise ReportError(
            f"another process has moved {folder} aside, because this one kept it for too long",
            hint="`fleetpatch report RUN` writes the report again.",
        )


def _is_present(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock_folder(folder: Path) -> int:
    """Return the descriptor of a folder that only this process holds."""
    until, generation = time.monotonic() + _HOLD_SECONDS, _FIRST
    while True:
        ensure_private_directory(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until and _is_present(folder, descriptor):
                generation = _read_generation(descriptor)
                folder.rename(folder.with_name(f"{folder.name}.left-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"))
                until += _HOLD_SECONDS
            else:
                time.sleep(_POLL_SECONDS)
        else:
            if _is_present(folder, descriptor):
                if generation > _read_generation(descriptor):
                    _write_generation(descriptor, generation)
                return descriptor
        os.close(descriptor)


def _write_generation(descriptor: int, generation: datetime) -> None:
    new_file, flags = f"{_GENERATION_FILE}.{os.getpid()}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(new_file, flags, 0o600, dir_fd=descriptor), "w", encoding="ascii") as file:
        file.write(generation.astimezone(UTC).isoformat())
    os.replace(new_file, _GENERATION_FILE, src_dir_fd=descriptor, dst_dir_fd=descriptor)


def _read_generation(descriptor: int) -> datetime:
    try:
        with os.fdopen(
            os.open(_GENERATION_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=descriptor), encoding="ascii"
        ) as file:
            return datetime.fromisoformat(file.read().strip())
    except (FileNotFoundError, ValueError):
        return _FIRST
