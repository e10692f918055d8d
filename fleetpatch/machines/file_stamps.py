"""Finds out whether files have changed, without reading them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

Stamp = frozenset[tuple[str, int, int]]
"""Each file's path, the time of its last change in nanoseconds, and its size."""

_VARIABLE_FOLDERS = ("group_vars", "host_vars")
_MAX_FILES = 20_000


def read_stamp(paths: Iterable[Path]) -> Stamp:
    """Return the stamp of files, and of all files in folders.

    The folders with the variables of an Ansible inventory count with the file beside them. What can't be read has no
    part in the stamp, so that the stamp changes once it can be.
    """
    found: set[tuple[str, int, int]] = set()
    for path in paths:
        for each in _iterate_files(path):
            try:
                status = each.stat()
            except OSError:
                continue
            found.add((str(each), status.st_mtime_ns, status.st_size))
            if len(found) >= _MAX_FILES:
                return frozenset(found)
    return frozenset(found)


def _iterate_files(path: Path) -> Iterator[Path]:
    yield path
    folders = [path] if path.is_dir() else [path.parent / name for name in _VARIABLE_FOLDERS]
    for folder in folders:
        for place, below, names in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".")]
            yield from (Path(place) / name for name in names)
