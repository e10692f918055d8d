"""`fleetpatch web` as a process of its own, for tests that kill it and for the demonstration."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ci.tree import TOP
from tests.support.environment import PYTHONPATH, without_ours
from tests.support.free_port import free_port

START_SECONDS = 120.0  # on cores that others use, imports take long
STOP_SECONDS = 20.0


@dataclass
class WebProcess:
    """The pages over records, on one port of the loopback at every start.

    Attributes:
        environment: what is set besides this process' own variables: FLEETPATCH_RECORDS_URL, PREFECT_API_URL, …
        log: what it printed, over all its starts.
        options: more words of the command.
        start_seconds: how long its last start took; 2 to 3 on quiet cores.
    """

    environment: Mapping[str, str]
    log: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    start_seconds: float = 0.0

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it came to its end, or did not answer in time; with the end of its log.
        """
        command = [sys.executable, "-m", "fleetpatch.cli.command", "web", "--port", str(self.port), *self.options]
        around = {**without_ours(), "PYTHONPATH": PYTHONPATH, **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # a session of its own: Ctrl-C on the demonstration does not end it
                command, cwd=TOP, env=around, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        began = time.monotonic()
        until = began + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the pages are not served:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)
        self.start_seconds = time.monotonic() - began

    def scale(self, seconds: float) -> float:
        """Return a time limit: this one, or a longer one if the last start says that the cores are busy."""
        return max(seconds, 5 * self.start_seconds)

    def kill(self) -> None:
        """End it with -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as its unit does."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True  # it is there: records that can't be read are told by its pages
        except OSError:
            return False


@contextmanager
def web_process(environment: Mapping[str, str], log: Path, *options: str) -> Iterator[WebProcess]:
    """Serve pages until the end of the block."""
    web = WebProcess(environment, log, options)
    web.start()
    try:
        yield web
    finally:
        web.stop()
