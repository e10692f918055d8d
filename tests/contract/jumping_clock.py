"""A machine's clock that stand-ins set ahead: what takes too long is over at once, on slow machines as well."""

import os
import shutil
from pathlib import Path

import pytest


def put_jumping_clock(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put it on the path of what is started from now on. Return the shell command that sets it an hour ahead.

    Args:
        place: a folder of the test.
        monkeypatch: takes it away again.
    """
    tools, ahead = place / "clock", place / "seconds-ahead"
    tools.mkdir()
    ahead.write_text("0\n")
    date = tools / "date"
    date.write_text(f'#!/bin/sh\nexec {shutil.which("date")} -d "$(cat "{ahead}") seconds" "$@"\n')
    date.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return f"echo 3600 >'{ahead}'"
