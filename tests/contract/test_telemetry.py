"""Nothing is sent to Prefect's makers: by no program of a user, and by no command."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import KEYS_VARIABLE, OWNERS_VARIABLE, PYTHONPATH

COMMAND = ("-m", "deployments.command")
CALL = """
from flows.patch import patch_fleet
from prefect._internal.analytics.enabled import is_telemetry_enabled
from prefect.settings import get_current_settings
assert not is_telemetry_enabled()
assert not get_current_settings().server.analytics_enabled
"""


@pytest.mark.parametrize(
    "words",
    [("-c", CALL), (*COMMAND, "prefect", "version"), (*COMMAND, "doctor", "--server")],
    ids=["python", "prefect", "doctor"],
)
def test_a_person_at_a_terminal_has_sent_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    kept = {name: os.environ[name] for name in ("PATH", KEYS_VARIABLE, OWNERS_VARIABLE) if name in os.environ}
    ours, theirs = pty.openpty()  # without a terminal, Prefect doesn't say what it sends
    with os.fdopen(ours, "rb", buffering=0):
        subprocess.run(
            [sys.executable, *words], env={**kept, "HOME": str(tmp_path), "PYTHONPATH": PYTHONPATH}, cwd=tmp_path,
            stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, check=words[0] == "-c", timeout=300,
        )  # fmt: skip
        os.close(theirs)
    assert not list(tmp_path.rglob("notice_shown"))  # Prefect makes it before it sends the first event
