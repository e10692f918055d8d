"""A throwaway Redis for tests: Debian's program, as compose starts it, on the loopback, gone with the test.

prefect-redis is no dependency of fleetpatch: packages.sh installs it from deployments/compose/redis.txt into a folder.
Without the two, tests are skipped and say so; where CI=true they fail instead.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.support.free_port import free_port

PREFECT_REDIS = TOP / "build" / "redis"
"""Where prefect-redis is: packages.sh puts it there."""
START_SECONDS = 120.0


@dataclass(slots=True)
class Redis:
    """A server and its data.

    Attributes:
        folder: its data, which outlive a stop.
        port: on 127.0.0.1; the same at every start.
        password: of each client.
        process: the server, while it runs.
    """

    folder: Path
    port: int
    password: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Its URL, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, on the data that are there, and wait until it answers."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            f"dir {self.folder}",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert self.process.stdin is not None
        self.process.stdin.write("\n".join([*lines, ""]).encode())
        self.process.stdin.close()
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Redis did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as a service manager does. Its data stay."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_SECONDS)
            self.process = None

    def count_keys(self) -> int:
        """Return how many keys it has."""
        return int(self._ask("DBSIZE").removeprefix(":"))

    def _answers(self) -> bool:
        try:
            return self._ask("PING") == "+PONG"
        except OSError:
            return False

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), 5) as client, client.makefile("r") as answers:
            client.sendall(f"AUTH {self.password}\r\n{command}\r\n".encode())
            answers.readline()
            return answers.readline().strip()


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Give a server that runs and answers; skip the test if its program or prefect-redis is not there."""
    if shutil.which("redis-server") is None or not (PREFECT_REDIS / "prefect_redis").exists():
        reason = "redis-server or prefect-redis is not there: deployments/bootstrap/packages.sh redis installs them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder.mkdir()
    server = Redis(folder, free_port(), secrets.token_hex(16))
    try:
        server.start()
        yield server
    finally:
        server.stop()
