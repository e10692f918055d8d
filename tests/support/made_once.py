"""Folders that are dear to make and that tests copy: the processes of one pytest-xdist run make each of them once."""

import fcntl
import functools
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.environment import KEYS_VARIABLE

RUN_VARIABLE = "PYTEST_XDIST_TESTRUNUID"
"""pytest-xdist gives all processes of a run the same value."""


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made by the first process that asks for it. It is removed with all keys of the tests.

    Args:
        name: tells the folder from others.
        make: fills an empty folder.
    """
    shared = _find_shared()
    folder = shared / name
    shared.mkdir(exist_ok=True)
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with TemporaryDirectory(dir=shared) as attempt:
                unfinished = Path(attempt, name)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
    return folder


def _find_shared() -> Path:
    """Return the folder for all processes of this run, or this process's own."""
    run = os.environ.get(RUN_VARIABLE)
    return Path(os.environ[KEYS_VARIABLE]).parent / f"made-{run}" if run else Path(_make_own().name)


@functools.cache
def _make_own() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fleetpatch-made-")
