"""Reads and changes state.json of a Windows machine of the tests, safely beside its PowerShell."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_state(folder: Path) -> dict[str, Any]:
    """Return what became of the machine."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return state


@contextlib.contextmanager
def change_state(folder: Path) -> Iterator[dict[str, Any]]:
    """Hold the machine's state to change it."""
    with (folder / "state.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_state(folder)
        yield state
        _replace(folder / "state.json", state)


def write_state(folder: Path, state: dict[str, Any], *, name: str, content: dict[str, Any]) -> None:
    """Write the state, and a second file first, so that whoever sees the state sees both."""
    _replace(folder / name, content)
    _replace(folder / "state.json", state)


def _replace(path: Path, content: dict[str, Any]) -> None:
    new = path.with_name(path.name + ".python")
    new.write_text(json.dumps(content, indent=2), encoding="utf-8")
    os.replace(new, path)  # noqa: PTH105  # in one step: whoever reads takes no lock
