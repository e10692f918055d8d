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
    files: set[tuple[str, int, int]] = set()
    for path in paths:
        for file in _iterate_files(path):
            try:
                status = file.stat()
            except OSError:
                continue
            files.add((str(file), status.st_mtime_ns, status.st_size))
            if len(files) >= _MAX_FILES:
                return frozenset(files)
    return frozenset(files)


def _iterate_files(path: Path) -> Iterator[Path]:
    yield path
    folders = [path] if path.is_dir() else [path.parent / name for name in _VARIABLE_FOLDERS]
    for folder in folders:
        for parent, subfolders, names in os.walk(folder):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from (Path(parent) / name for name in names)
