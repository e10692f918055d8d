"""Folders that are dear to make and that tests copy: the processes of a test run make each of them once."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.environment import KEYS_VARIABLE, TEST_RUN_VARIABLE


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made by the first process that asks for it. It is removed with all keys of the tests.

    Args:
        name: tells the folder from others.
        make: fills an empty folder.
    """
    shared = Path(os.environ[KEYS_VARIABLE]).parent / f"made-{os.environ[TEST_RUN_VARIABLE]}"
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
