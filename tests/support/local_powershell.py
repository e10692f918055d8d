"""A PowerShell on this machine as a channel, so that scripts run in the real program without a Windows host."""

import os
import shutil
import subprocess
from collections.abc import Mapping

import pytest

from tasks.domain.errors import DeadlineExceeded
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.transport.output_decoder import ScriptOutputDecoder


def require_pwsh() -> str:
    """The path of pwsh, or skip."""
    found = shutil.which("pwsh")
    if found is None:
        pytest.skip("PowerShell (pwsh) is not on PATH")
    return found


class LocalPowerShell:
    """Runs each command line as a process of its own, without cmd.exe."""

    def __init__(self, clock: Clock, environment: Mapping[str, str] | None = None) -> None:
        self._pwsh = require_pwsh()
        self._clock = clock
        self._environment = {**os.environ, "TERM": "dumb", **(environment or {})}
        self.is_open = True
        self.last_stdout = b""

    def execute(
        self,
        command_line: str,
        stdin: bytes,
        decoder: ScriptOutputDecoder,
        *,
        deadline: Deadline,
        may_be_ended: bool = False,
    ) -> int | None:
        """Run it; see PowerShellChannel. Its end is waited for."""
        words = command_line.split()[1:]
        at = words.index("-ExecutionPolicy")
        del words[at : at + 2]  # Windows only
        try:
            ended = subprocess.run(
                [self._pwsh, *words],
                input=stdin,
                capture_output=True,
                env=self._environment,
                timeout=deadline.remaining_seconds(self._clock),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded("the machine did not answer in the time it was given") from error
        self.last_stdout = ended.stdout
        decoder.feed_stderr(ended.stderr)
        decoder.feed_stdout(ended.stdout)
        return None if decoder.is_complete else ended.returncode

    def close(self) -> None:
        """Nothing stays open."""
        self.is_open = False
