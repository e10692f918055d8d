"""Another user of this machine, without rights: ``nobody``. Only root can become that user."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

import pytest

needs_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user, with setpriv"
)
BECOME_NOBODY: Final = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs")
_PYTHON: Final = "/usr/bin/python3"  # the system's: that user may not read the checkout


def run_as_nobody(program: str, *words: str) -> str:
    """Run a Python program as that user, with nothing of our environment. Return what it printed.

    Raises:
        CalledProcessError: it failed.
    """
    command: Sequence[str] = (*BECOME_NOBODY, _PYTHON, "-I", "-c", program, *words)
    done = subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
