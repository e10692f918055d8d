"""Reads the text files and directories that decide what runs, with limits for size and time.

Nothing else opens such a file, so that none is read before file_trust.py has decided who can have written it.
"""

import os
import select
import stat
import time
from pathlib import Path

from inventory.files.file_trust import UntrustedFile, require_trusted
from inventory.files.problems import ProblemCollector, SourceLocation

MAX_FILE_BYTES = 10 * 1024 * 1024
"""Maximum size of a file. A larger file is not an inventory."""
PIPE_SILENCE_TIMEOUT_SECONDS = 10.0
"""How long a pipe may send nothing. Without it, fleetpatch would wait forever for a pipe without a writer."""
PIPE_TOTAL_TIMEOUT_SECONDS = 60.0
"""How long the writer of a pipe may take in total."""


def read_text_file(path: Path, problems: ProblemCollector, *, must_be_regular: bool = False) -> str | None:
    """Read a file that decides what runs: an inventory, a configuration, a calendar, a request.

    Args:
        path: the file, or a pipe with a writer.
        problems: collects the reason why the file can't be read.
        must_be_regular: whether it must be a regular file, because the user did not name it.

    Returns:
        The text, or None if the file can't be read.
    """
    raw = read_binary_file(path, problems, must_be_regular=must_be_regular)
    try:
        return raw.decode("utf-8-sig") if raw is not None else None  # spreadsheet programs write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.add(SourceLocation(path, line), "this file is no UTF-8 text", "Save it as UTF-8.")
        return None


def read_binary_file(path: Path, problems: ProblemCollector, *, must_be_regular: bool = False) -> bytes | None:
    """Read a file as ``read_text_file`` does. Return its bytes, or None if it can't be read."""
    try:
        raw = _read_bytes(path, MAX_FILE_BYTES + 1, must_be_regular)
    except UntrustedFile as error:
        problems.add(path, f"this file is not trusted: {error.message}", error.hint)
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        hint = "Correct the path, and make it readable for the user who runs fleetpatch."
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        problems.add(path, f"this file can't be read: {reason}", hint)
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.add(path, "this file is larger than 10 MiB", "Split it, and give the directory of the parts.")
        return None
    return raw


def _read_bytes(path: Path, limit: int, must_be_regular: bool) -> bytes:
    """Read up to ``limit`` bytes of a file or a pipe (``<(generate)``). A silent or slow pipe times out.

    Raises:
        OSError: the file can't be read, or is a device; TimeoutError: the pipe is silent or slow.
        UntrustedFile: somebody else may have written it.
    """
    # Without O_NONBLOCK, open() waits for the writer of a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(None, "it is a directory")
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) or (must_be_regular and not stat.S_ISREG(mode)):
            raise OSError(None, "it is no regular file")
        require_trusted(path, handle)
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        raw = bytearray()
        deadline = time.monotonic() + PIPE_TOTAL_TIMEOUT_SECONDS
        while len(raw) < limit:
            if time.monotonic() > deadline:
                raise TimeoutError(None, f"its writer was not done after {PIPE_TOTAL_TIMEOUT_SECONDS:g} s")
            if not poller.poll(PIPE_SILENCE_TIMEOUT_SECONDS * 1000):
                raise TimeoutError(None, f"nothing was written into it for {PIPE_SILENCE_TIMEOUT_SECONDS:g} s")
            part = stream.read(limit - len(raw))
            if not part:
                break
            raw += part
    return bytes(raw)


def list_directory_names(
    folder: Path, problems: ProblemCollector, *, max_entries: int, unreadable_hint: str, too_many_hint: str
) -> list[str]:
    """Return the sorted names in a directory. Return none if it is not trusted, can't be read or has too many entries.

    Args:
        folder: the directory.
        problems: collects the problems of the directory.
        max_entries: maximum number of entries.
        unreadable_hint: the hint if the directory can't be read.
        too_many_hint: the hint if it has too many entries.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            require_trusted(folder, handle)
            names = os.listdir(handle)  # noqa: PTH208 - a Path would be another folder, if it is exchanged
        finally:
            os.close(handle)
    except UntrustedFile as error:
        problems.add(folder, f"this directory is not trusted: {error.message}", error.hint)
        return []
    except OSError as error:
        problems.add(folder, f"this directory can't be read: {error.strerror}", unreadable_hint)
        return []
    if len(names) > max_entries:
        problems.add(folder, f"more than {max_entries:,} entries are in this directory", too_many_hint)
        return []
    return sorted(names)
