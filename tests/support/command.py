"""The command in the process of the tests, where what it says is the subject and its process is not."""

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from fleetpatch.cli.command import main
from fleetpatch.cli.runtime.output import get_stderr_console, get_stdout_console


def run_command(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> CompletedProcess[str]:
    """Run ``fleetpatch WORDS…``. An error that the command itself would not tell is raised here.

    Args:
        words: its arguments.
        environment: all environment variables that it finds.
        folder: its current folder.

    Returns:
        What a process would have: its exit code, and what it wrote.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        _forget_consoles()  # they look at their environment when they are made
        try:
            code = main(words)
        finally:
            _forget_consoles()
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def _forget_consoles() -> None:
    get_stdout_console.cache_clear()
    get_stderr_console.cache_clear()
