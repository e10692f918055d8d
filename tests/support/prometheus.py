"""A real Prometheus (Debian's package) that scrapes pages on a loopback port."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.free_port import free_port

WAIT_SECONDS = 90.0

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus isn't here (deployments/bootstrap/packages.sh prometheus)"
)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        words = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{words}", timeout=30) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return list(document["data"]["result"])

    def read_value(self, expression: str) -> float:
        """Return the value of a query that gives one sample."""
        (sample,) = self.query(expression)
        return float(sample["value"][1])

    def wait_until_up(self) -> None:
        """Wait until the pages were scraped."""
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            try:
                if self.query("up == 1"):
                    return
            except OSError:
                pass  # it does not listen yet
            time.sleep(0.2)
        raise TimeoutError(f"Prometheus has not scraped the pages in {WAIT_SECONDS:.0f} s")


@contextmanager
def run_prometheus(place: Path, scraped_url: str, *, path: str = "/metrics", token: str = "") -> Iterator[Prometheus]:
    """Run a Prometheus with an empty store that scrapes one address every second.

    Args:
        place: an empty folder.
        scraped_url: the address of the pages.
        path: the path of the metrics, with its query.
        token: sent as bearer token, from a file.
    """
    address = urllib.parse.urlsplit(scraped_url)
    bare, _, words = path.partition("?")
    job: dict[str, Any] = {
        "job_name": "fleetpatch",
        "metrics_path": bare,
        "params": urllib.parse.parse_qs(words),
        "static_configs": [{"targets": [address.netloc]}],
    }
    if token:
        (place / "token").write_text(token)
        job["authorization"] = {"credentials_file": str(place / "token")}
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    (place / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with (place / "log").open("wb") as log:
        child = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={place / 'prometheus.yml'}",
                f"--storage.tsdb.path={place / 'store'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            found.wait_until_up()
            yield found
        finally:
            child.terminate()
            child.wait(30)
