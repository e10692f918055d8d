"""Runs a program that was written for Azure beside the endpoint, in a network namespace of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.ci import tree

CLIENTS: Final = tree.TOP / "tests/data/event_clients"
MACHINE: Final = "vm_0"
PATIENCE: Final = 60.0
needs_namespace: Final = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None,
    reason="a network namespace needs root, unshare and ip",
)


@contextmanager
def running(
    file: Path,
    address: str,
    *program: str,
    words: str = "",
    environment: dict[str, str] | None = None,
    machine: str = MACHINE,
) -> Iterator["subprocess.Popen[str]"]:
    """Run a program beside the endpoint, as a machine's, and end both at the end of the block."""
    server = ("-m", "tests.contract.events.namespace_server", str(file), machine, address)
    command = ["unshare", "--net", sys.executable, *server]
    output = file.with_name("output").open("w+")
    process = subprocess.Popen(
        [*command, *program],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tree.TOP,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(words)
    process.stdin.flush()
    try:
        yield process
    finally:
        process.stdin.close()
        os.killpg(process.pid, 15)
        process.wait(PATIENCE)
        output.close()


def wait_for(what: Callable[[], bool], file: Path) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > until:
            pytest.fail(f"it did not happen: {file.with_name('output').read_text()[-3000:]}")
        time.sleep(0.1)


def read_output(file: Path) -> str:
    return file.with_name("output").read_text()
