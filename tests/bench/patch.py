"""What patching costs the controller: fleetpatch beside raw OpenSSH and Ansible's apt module.

    python -m tests.bench.patch --hosts 20 --rounds 5

Each go has lab machines of its own, fresh from the same image, so all begin in the same state. All install the same
versions: what fleetpatch chooses by default (critical and security updates) is what the others are given by name and
version. A go counts only when plain OpenSSH sees all of them installed on every machine afterwards. Nobody reboots.

Fleetpatch is measured three times: without Prefect, with Prefect and its own server, and the start and end of that
server alone.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from fleetpatch.cli.runtime.exit_codes import ExitCode
from tests.bench import assess, contenders
from tests.bench.assess import Cost, about, measure
from tests.bench.contenders import FLEETPATCH, PARALLEL, Contender
from tests.lab.fleet import Lab, LabHost
from tests.lab.mirror import bookworm, read_sources

Pins = Mapping[str, str]
_SERVER = (
    "from flows.prefect_api.connection import EphemeralPrefectServer as Server; "
    "s = Server(); s.start(); s.wait_until_healthy(); s.stop()"
)


def python_packages(host: LabHost, folder: Path) -> list[Path]:
    """Fetch what Ansible's apt module needs on a machine, from the point release that the lab's image is of."""
    state, archives = folder / "lists", folder / "archives"
    for each in (state, archives):
        (each / "partial").mkdir(parents=True)
    (folder / "sources.list").write_text(f"{bookworm(read_sources(Path('/etc/apt')))[0]}\n")
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": state,
        "Dir::State::status": host.root / "var/lib/dpkg/status",
        "Dir::Cache::Archives": archives,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    subprocess.run([*apt, "update"], check=True)
    wanted = ["--download-only", "--no-install-recommends", "install", "python3-apt"]
    subprocess.run([*apt, "-y", *wanted], check=True, stdout=subprocess.DEVNULL)
    return sorted(archives.glob("*.deb"))


def prepared(hosts: list[LabHost], packages: list[Path]) -> list[LabHost]:
    """Put Python on machines, for all contenders alike."""
    for host in hosts:
        for package in packages:
            (host.root / "var/cache" / package.name).write_bytes(package.read_bytes())
        host.sh(
            "apt-get -qq -y --no-install-recommends install /var/cache/*.deb >/dev/null 2>&1", root=True, timeout=300
        )
    return hosts


def pins_of(host: LabHost, work: Path) -> Pins:
    """Return what fleetpatch chooses on a machine: name -> version."""
    way = _fleetpatch(host, work, "plan")
    done = subprocess.run(
        [*way.command, "--json"], env={**os.environ, **way.environment}, capture_output=True, text=True, check=True
    )
    (machine,) = json.loads(done.stdout)["machines"]
    return {each["patchName"]: each["version"] for each in machine["patches"] if each["reason"] == "would be installed"}


def _names(pins: Pins) -> list[str]:
    return [f"{name}={version}" for name, version in sorted(pins.items())]


def openssh(hosts: list[LabHost], work: Path, pins: Pins) -> Contender:
    """A process for each machine, started by xargs, with what an administrator would type."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Options::=--force-confold"
    script = f"apt-get -qq update && {apt} install {shlex.join(_names(pins))}"
    (work / "addresses").write_text("".join(f"{host.address}\n" for host in hosts))
    ssh = ["ssh", "-F", "none", "-n", "-i", str(hosts[0].key), "-l", hosts[0].user]
    words = shlex.join([*ssh, *contenders.ssh_options(hosts[0])])
    one = f'exec {words} "$1" {shlex.quote(f"sudo -n sh -c {shlex.quote(script)}")}'
    command = ("xargs", "-a", str(work / "addresses"), "-P", str(PARALLEL), "-n", "1", "sh", "-c", one, "sh")
    return Contender("OpenSSH", command, lambda _: _installed(hosts, pins))


def ansible(hosts: list[LabHost], work: Path, pins: Pins) -> Contender:
    """Ansible's apt module, as root through sudo."""
    way = contenders.ansible(hosts, work, assess.PROGRAMS)
    words = list(way.command[: way.command.index("-m")])
    module = f"update_cache=yes state=present dpkg_options=force-confold name={','.join(_names(pins))}"
    environment = {**way.environment, "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
    command = (*words, "-b", "-m", "apt", "-a", module)
    return Contender("Ansible apt", command, lambda _: _installed(hosts, pins), environment)


def _fleetpatch(host: LabHost, work: Path, verb: str, *words: str) -> Contender:
    inventory = work / "fleet.yaml"
    inventory.write_text(host.lab.inventory_text())
    command = (str(FLEETPATCH), verb, "*", "--inventory", str(inventory), *words)
    environment = {
        "PREFECT_HOME": str(work.parent / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "XDG_DATA_HOME": str(work.parent / "data"),
    }
    return Contender("", command, lambda _: 0, environment)


def fleetpatch(hosts: list[LabHost], work: Path, pins: Pins, *, is_plain: bool) -> Contender:
    """The command that people use; all machines in one wave, as the others do it."""
    words = ["--yes", "--json", "--reboot", "never", "--wave-percent", "100", "--at-once", str(PARALLEL)]
    way = _fleetpatch(hosts[0], work, "patch", *words, *(["--no-prefect"] if is_plain else []))
    name = "fleetpatch --no-prefect" if is_plain else "fleetpatch (with Prefect and its own server)"
    # no host is rebooted, so services still run the old libc: fleetpatch warns of that
    with_warnings = frozenset({ExitCode.SUCCESS, ExitCode.WARNINGS})
    return Contender(name, way.command, lambda _: _installed(hosts, pins), way.environment, with_warnings)


def server(work: Path, hosts: int) -> Contender:
    """What `fleetpatch patch` does before and after: start a Prefect server, and end it."""
    environment = {"PREFECT_HOME": str(work.parent / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return Contender("its own server, started and ended", (sys.executable, "-c", _SERVER), lambda _: hosts, environment)


def _installed(hosts: list[LabHost], pins: Pins) -> int:
    return sum(host.package_versions(*pins) == dict(pins) for host in hosts)


def compete(lab: Lab, count: int, rounds: int, folder: Path) -> tuple[dict[str, list[Cost]], str]:
    """Everybody's costs, round by round, on fresh machines each time; and on what that was."""
    lab.down()
    hosts = lab.up(1)
    packages = python_packages(hosts[0], folder / "packages")
    scratch = folder / "scratch"
    scratch.mkdir()
    pins = pins_of(prepared(hosts, packages)[0], scratch)
    print(f"{len(pins)} updates: {' '.join(_names(pins))}", file=sys.stderr)
    ways: list[Callable[[list[LabHost], Path], Contender]] = [
        lambda hosts, work: openssh(hosts, work, pins),
        lambda hosts, work: ansible(hosts, work, pins),
        lambda hosts, work: fleetpatch(hosts, work, pins, is_plain=True),
        lambda hosts, work: fleetpatch(hosts, work, pins, is_plain=False),
    ]
    costs: dict[str, list[Cost]] = {}
    heading = ""
    for number in range(rounds + 1):
        for place, way in enumerate(ways if number % 2 else ways[::-1]):
            lab.down()
            hosts = prepared(lab.up(count), packages)
            heading = heading or about(hosts, rounds)
            work = folder / f"{number}-{place}"
            work.mkdir()
            _go(way(hosts, work), count, number, costs)
        _go(server(folder / "server", count), count, number, costs)
    return costs, heading


def _go(contender: Contender, count: int, number: int, costs: dict[str, list[Cost]]) -> None:
    cost = measure(contender, count)
    named = f"round {number or 'warm-up'}: {contender.name}"
    print(f"{named}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s", file=sys.stderr, flush=True)
    if number:
        costs.setdefault(contender.name, []).append(cost)


def table(costs: Mapping[str, list[Cost]], base: str) -> str:
    """A Markdown table; ratios are of medians, to the base's."""
    lines = [f"| | wall, s | controller CPU, s | wall / {base} | CPU / {base} |", "|---|---|---|---|---|"]
    walls = {name: [cost.wall for cost in each] for name, each in costs.items()}
    cpus = {name: [cost.cpu for cost in each] for name, each in costs.items()}
    for name in costs:
        ratios = [statistics.median(of[name]) / statistics.median(of[base]) for of in (walls, cpus)]
        cells = [name, assess.spread(walls[name], 2), assess.spread(cpus[name], 2), *(f"{each:.2f}" for each in ratios)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lab", default="bench-patch", help="Name of the lab that is made, and removed.")
    options = parser.parse_args()
    assess.prepare_programs()
    with Lab(options.lab) as lab, tempfile.TemporaryDirectory() as folder:
        costs, heading = compete(lab, options.hosts, options.rounds, Path(folder))
        print(f"\n{heading}\n\n{table(costs, 'OpenSSH')}")


if __name__ == "__main__":
    main()
