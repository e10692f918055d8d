"""Components on real machines: a file, a .deb by URL, an .rpm; a bad version taken back, a killed controller."""

import functools
import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from flows.engine.run_lease import build_component_lease
from tasks.records.setup import open_records
from tests.lab.engine import Fleet
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.killing import Controllers, began, its_lease_is_over
from tests.lab.packages import DebRepository, RpmRepository

pytestmark = pytest.mark.slow

EXPORTER: Final = """#!/bin/sh
version=VERSION
[ "$1" != --version ] || { echo "exporter, version $version"; exit 0; }
BODY
echo "$version" >/run/exporter
exec sleep infinity
"""
FAULT: Final = """[ -e /etc/exporter-mended ] || {
  echo "$version" >/run/exporter
  sleep 2
  [ -e /etc/exporter-loops ] && exit 1
  exit 7
}"""
"""The body of a version that dies, or loops, moments after its start, until somebody has mended its cause."""
UNIT: Final = """[Service]
Restart=always
RestartPreventExitStatus=7
ExecStartPre=/bin/rm -f /run/exporter
ExecStart=/usr/local/bin/exporter
"""
INSTALL: Final = """set -e
while [ -e /etc/exporter-held ]; do sleep 0.1; done
install -m 755 "$FLEETPATCH_FILE" /usr/local/bin/exporter.new
mv -f /usr/local/bin/exporter.new /usr/local/bin/exporter
echo "$FLEETPATCH_VERSION" >>/var/log/exporter-installations
systemctl restart exporter
"""
RUNS: Final = '[ "$(cat /run/exporter)" = "$(/usr/local/bin/exporter --version | cut -d " " -f 3)" ]'
TIMES: Final = {"health_minutes": 0.1, "soak_minutes": 0.1, "canary_pause_minutes": 0}


def build_version(version: str, content: Path, **source: str) -> dict[str, str]:
    return {"version": version, "sha256": hashlib.sha256(content.read_bytes()).hexdigest(), **source}


@contextmanager
def serve(folder: Path, host: LabHost) -> Iterator[str]:
    """Serve the files of a folder on the lab's bridge, and give the URL."""
    bridge = host.address.rpartition(".")[0] + ".1"
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer((bridge, 0), handler)
    threading.Thread(target=server.serve_forever, name="files", daemon=True).start()
    yield f"http://{bridge}:{server.server_port}"
    server.shutdown()
    server.server_close()


class ComponentHosts:
    """Hosts with version 1.0.0 of an exporter and a package "shop"; the last host is at the canary location."""

    def __init__(self, hosts: Sequence[LabHost], place: Path, url: str, served: Path) -> None:
        self.hosts, self.place, self.url, self.served = hosts, place, url, served
        self.fleet = Fleet(hosts, place)
        self.fleet.describe(**{hosts[-1].name.replace("-", "_"): {"location": "test"}}, every={"probes": []})
        self.controllers = Controllers(self.fleet)
        debs, rpms = DebRepository(place / "debs"), RpmRepository(place / "rpms")
        for version in ("2.0.0", "2.1.0"):
            debs.add("shop", version)
            rpms.add("shop", version)
        self.deb, self.rpm = "shop_{}_all.deb", "shop-{}-1.noarch.rpm"
        for file in (*debs.folder.glob("*.deb"), *rpms.folder.glob("noarch/*.rpm")):
            shutil.copy(file, served)
        for host in hosts:
            binary = host.root / "usr/local/bin/exporter"
            binary.write_text(EXPORTER.replace("VERSION", "1.0.0").replace("BODY\n", ""))
            binary.chmod(0o755)
            (host.root / "etc/systemd/system/exporter.service").write_text(UNIT)
            host.sh("systemctl daemon-reload; systemctl start exporter", root=True)
            installer, name = ("dpkg -i", self.deb) if host.flavour == "apt" else ("rpm -U", self.rpm)
            shutil.copy(served / name.format("2.0.0"), host.root / "root")
            host.sh(f"{installer} /root/{name.format('2.0.0')}", root=True)

    def describe(self, *bad: str) -> None:
        """Write components.yaml, with these further versions of the exporter, which are bad."""
        versions = []
        for version in ("1.0.0", "1.1.0", *bad):
            body = f"{FAULT}\n" if version in bad else ""
            file = self.place / f"exporter-{version}"
            file.write_text(EXPORTER.replace("VERSION", version).replace("BODY\n", body))
            versions.append(build_version(version, file, file=file.name))
        exporter: dict[str, Any] = {
            "name": "exporter",
            "kind": "file",
            "system": "linux",
            "version": {"command": "/usr/local/bin/exporter --version", "pattern": "version ([0-9.]+)"},
            "install": INSTALL,
            "health": [{"name": "runs", "kind": "command", "target": RUNS}],
            "versions": versions,
        }
        packages: list[dict[str, Any]] = [
            {
                "name": f"shop-{kind}",
                "kind": kind,
                "package": "shop",
                "after": ["exporter"],
                "versions": [
                    build_version(f"{version}{suffix}", self.served / name, url=f"{self.url}/{name}")
                    for version in ("2.0.0", "2.1.0")
                    for name in (pattern.format(version),)
                ],
            }
            for kind, suffix, pattern in (("deb", "", self.deb), ("rpm", "-1", self.rpm))
        ]
        components = [{**TIMES, **component} for component in (exporter, *packages)]
        text = yaml.safe_dump({"canary_locations": ["test"], "components": components})
        (self.place / "components.yaml").write_text(text)

    def call(self, *words: str) -> tuple[int, Any]:
        """Run a command on components to its end. Return its code, and the document that it printed."""
        told = self.controllers.start("components", *words, "--json").end()
        assert told.out, told.err
        return told.code, json.loads(told.out)

    def upgrade(self, *words: str) -> tuple[int, dict[str, tuple[int, int]]]:
        """Return the code, and by component how many machines were upgraded, and how many failed."""
        code, document = self.call("upgrade", *words, "--yes", "--no-prefect")
        counts = {
            run["componentName"]: (run["upgradedMachineCount"], run["failedMachineCount"]) for run in document["runs"]
        }
        return code, counts

    def standings(self, component: str) -> list[str]:
        rows = self.call("list")[1]["components"]
        return [row["standing"] for row in rows if row["componentName"] == component]

    @property
    def versions(self) -> list[str]:
        """Of the exporter that runs on each host, by the host's own word."""
        return [host.sh("cat /run/exporter; systemctl is-active -q exporter").strip() for host in self.hosts]

    @property
    def shops(self) -> list[str]:
        return [host.package_versions("shop")["shop"].removesuffix("-1") for host in self.hosts]

    @property
    def installations(self) -> list[list[str]]:
        """Of the exporter on each host, by its own log."""
        return [host.sh("cat /var/log/exporter-installations 2>/dev/null || true").split() for host in self.hosts]

    def let_hours_pass(self, hours: int) -> None:
        """Let everything that the records know of outcomes be so much older."""
        with sqlite3.connect(self.place / "records.db") as database:
            for column in ("started_at", "ended_at"):
                database.execute(
                    f"UPDATE outcomes SET {column} = strftime('%Y-%m-%d %H:%M:%f000', {column}, '-{hours} hours')"
                )


@pytest.fixture
def components(hosts: BootHosts, tmp_path: Path) -> Iterator[ComponentHosts]:
    made = [*hosts(1, "dnf"), *hosts(1)]
    (tmp_path / "served").mkdir()
    with serve(tmp_path / "served", made[0]) as url:
        kept = ComponentHosts(made, tmp_path, url, tmp_path / "served")
        kept.describe()
        for component in ("exporter", "shop-deb", "shop-rpm"):
            assert kept.call("enroll", component, "*")[0] == 0
        yield kept
        kept.controllers.end()


def test_components_come_by_themselves_and_a_bad_version_is_taken_back_and_tried_again(
    components: ComponentHosts,
) -> None:
    """The controller dies in the middle of the first upgrade. The order of the components is kept all the time."""
    controllers = components.controllers
    held = components.hosts[-1].root / "etc/exporter-held"
    held.touch()
    killed = controllers.start("components", "upgrade", "exporter", "--yes", "--no-prefect")
    controllers.wait_until(began("install"), "the installation on the canary")
    killed.kill()
    assert components.versions == ["1.0.0"] * 2
    with open_records(components.fleet.records_url) as records:
        lease = records.leases.find_lease(build_component_lease("exporter"))
        assert lease is not None
        assert lease.holder is not None
        records.leases.renew(lease.run_id, lease.holder, 600)  # its last renewal may be later than that of the run's
    its_lease_is_over(controllers)
    held.unlink()
    resumed = controllers.resume()
    assert set(resumed.states.values()) == {"Succeeded"}, resumed.out
    assert components.versions == ["1.1.0"] * 2
    assert components.installations == [["1.1.0"]] * 2

    components.describe("1.2.0")
    code, counts = components.upgrade()
    assert (code, counts) == (1, {"exporter": (0, 1)})  # the others wait for it on all machines
    assert components.versions == ["1.1.0"] * 2
    assert components.installations == [["1.1.0"], ["1.1.0", "1.2.0", "1.1.0"]]
    assert components.standings("exporter") == ["RetryLater"] * 2
    assert components.upgrade() == (3, {})
    assert components.shops == ["2.0.0"] * 2

    for host in components.hosts:
        (host.root / "etc/exporter-mended").touch()
    components.let_hours_pass(25)
    code, counts = components.upgrade()
    assert (code, counts) == (0, {"exporter": (2, 0), "shop-deb": (1, 0), "shop-rpm": (1, 0)})
    assert components.versions == ["1.2.0"] * 2
    assert components.shops == ["2.1.0"] * 2
    assert components.standings("exporter") == ["Current"] * 2
