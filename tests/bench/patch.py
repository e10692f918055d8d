"""What patching costs: fleetpatch beside raw OpenSSH and, on machines with apt, Ansible's apt module.

    python -m tests.bench.patch --hosts 20 --rounds 5

Each go has lab machines of its own, fresh from the same image, so all begin in the same state. All install the same
versions: what fleetpatch chooses by default (critical and security updates) is what the others are given by name and
version. dnf's own command for security updates chooses the same; "zypper patch" would take newer ones. A go counts
only when plain OpenSSH sees all of them installed on every machine afterwards. Nobody reboots.

Fleetpatch is measured three times: without Prefect, with Prefect and its own server, and the start and end of that
server alone.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from fleetpatch.cli.runtime.exit_codes import ExitCode
from tests.bench import contenders
from tests.bench.contenders import BEFORE, PARALLEL, Contender, find_program, homes_in
from tests.bench.costs import (
    PROGRAMS,
    Cost,
    Goal,
    about,
    judge,
    measure,
    measure_with_machines,
    note,
    prepare_programs,
    table,
)
from tests.bench.options import add_common_options
from tests.lab.fleet import Flavour, Lab, LabHost
from tests.lab.mirror import bookworm, read_sources

Pins = Mapping[str, str]
_SERVER: Final = (
    "from flows.prefect_api.connection import EphemeralPrefectServer as Server; "
    "s = Server(); s.open(); s.start(); s.wait_until_healthy(); s.stop()"
)
_PLAIN: Final = "fleetpatch --no-prefect"
_WITH_PREFECT: Final = "fleetpatch (with Prefect and its own server)"
_OPENSSH: Final = "OpenSSH"
_ANSIBLE: Final = "Ansible apt"
GOALS: Final = (
    Goal(_PLAIN, "controller CPU", lambda cost: cost.cpu, _ANSIBLE, 0.5),
    Goal(_WITH_PREFECT, "controller CPU", lambda cost: cost.cpu, _ANSIBLE, 1.0),
    Goal(_WITH_PREFECT, "wall", lambda cost: cost.wall, _OPENSSH, 1.1),
    *(
        goal
        for name in (_PLAIN, _WITH_PREFECT)
        for goal in (
            Goal(name, "CPU of a machine", lambda cost: cost.machine_cpu, _OPENSSH, 0.5, is_difference=True),
            Goal(name, "processes on a machine", lambda cost: cost.processes, _OPENSSH, 500, is_difference=True),
            Goal(name, "controller CPU", lambda cost: cost.cpu, f"{name}{BEFORE}", 1.0),
            Goal(name, "wall", lambda cost: cost.wall, f"{name}{BEFORE}", 1.0),
        )
    ),
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
    """Put Python on machines, for all contenders alike; nothing without packages."""

    def install(host: LabHost) -> None:
        for package in packages:
            (host.root / "var/cache" / package.name).write_bytes(package.read_bytes())
        host.sh(
            "apt-get -qq -y --no-install-recommends install /var/cache/*.deb >/dev/null 2>&1", root=True, timeout=300
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(install, hosts if packages else ()))
    return hosts


def pins_of(host: LabHost, work: Path) -> Pins:
    """Return what fleetpatch chooses on a machine: name -> version."""
    words = [*find_program(), "plan", "*", "--inventory", _inventory(host, work), "--json"]
    environment = {**os.environ, **homes_in(work)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    (machine,) = json.loads(done.stdout)["machines"]
    return {each["patchName"]: each["version"] for each in machine["patches"] if each["reason"] == "would be installed"}


def _names(pins: Pins) -> list[str]:
    return [f"{name}={version}" for name, version in sorted(pins.items())]


def write_raw_command(flavour: Flavour, pins: Pins) -> str:
    """Return what an administrator would type on a machine, as root."""
    names = shlex.join(_names(pins))
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Options::=--force-confold"
    commands: dict[Flavour, str] = {
        "apt": f"apt-get -qq update && {apt} install {names}",
        "dnf": "dnf -q -y --refresh upgrade-minimal --security",
        "zypper": f"zypper -q -n refresh && zypper -q -n install {names}",
    }
    return commands[flavour]


def openssh(hosts: list[LabHost], work: Path, pins: Pins) -> Contender:
    """A process for each machine, started by xargs, with what an administrator would type."""
    script = write_raw_command(hosts[0].flavour, pins)
    (work / "addresses").write_text("".join(f"{host.address}\n" for host in hosts))
    ssh = ["ssh", "-F", "none", "-n", "-i", str(hosts[0].key), "-l", hosts[0].user]
    words = shlex.join([*ssh, *contenders.ssh_options(hosts[0])])
    one = f'exec {words} "$1" {shlex.quote(f"sudo -n sh -c {shlex.quote(script)}")}'
    command = ("xargs", "-a", str(work / "addresses"), "-P", str(PARALLEL), "-n", "1", "sh", "-c", one, "sh")
    return Contender(_OPENSSH, command, lambda _: _installed(hosts, pins))


def ansible(hosts: list[LabHost], work: Path, pins: Pins) -> Contender:
    """Ansible's apt module, as root through sudo."""
    way = contenders.ansible(hosts, work, PROGRAMS)
    words = list(way.command[: way.command.index("-m")])
    module = f"update_cache=yes state=present dpkg_options=force-confold name={','.join(_names(pins))}"
    environment = {**way.environment, "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
    command = (*words, "-b", "-m", "apt", "-a", module)
    return Contender(_ANSIBLE, command, lambda _: _installed(hosts, pins), environment)


def _inventory(host: LabHost, work: Path) -> str:
    inventory = work / "fleet.yaml"
    inventory.write_text(host.lab.inventory_text())
    return str(inventory)


def fleetpatch(
    hosts: list[LabHost], work: Path, pins: Pins, *, is_plain: bool, checkout: Path | None = None
) -> Contender:
    """The command that people use, or another checkout's; all machines in one wave, as the others do it."""
    words = ["--yes", "--json", "--reboot", "never", "--wave-percent", "100", "--at-once", str(PARALLEL)]
    words += ["--no-prefect"] if is_plain else []
    command = (*find_program(checkout), "patch", "*", "--inventory", _inventory(hosts[0], work), *words)
    name = (_PLAIN if is_plain else _WITH_PREFECT) + (BEFORE if checkout else "")
    # no host is rebooted, so services still run the old libc: fleetpatch warns of that
    with_warnings = frozenset({ExitCode.SUCCESS, ExitCode.WARNINGS})
    home = work.parent / ("before" if checkout else "now")  # of all rounds
    return Contender(name, command, lambda _: _installed(hosts, pins), homes_in(home), with_warnings)


def server(work: Path, hosts: int) -> Contender:
    """What `fleetpatch patch` does before and after: start a Prefect server, and end it."""
    command = (sys.executable, "-c", _SERVER)
    return Contender("its own server, started and ended", command, lambda _: hosts, homes_in(work.parent / "now"))


def _installed(hosts: list[LabHost], pins: Pins) -> int:
    return sum(host.package_versions(*pins) == dict(pins) for host in hosts)


def compete(
    lab: Lab, flavour: Flavour, count: int, rounds: int, folder: Path, before: Path | None
) -> tuple[dict[str, list[Cost]], str]:
    """Everybody's costs, round by round, on fresh machines each time; and on what that was."""
    lab.down()
    hosts = lab.up(1, flavour)
    packages = python_packages(hosts[0], folder / "packages") if flavour == "apt" else []
    scratch = folder / "scratch"
    scratch.mkdir()
    pins = pins_of(prepared(hosts, packages)[0], scratch)
    print(f"{len(pins)} updates: {' '.join(_names(pins))}", file=sys.stderr)
    ways = list_ways(flavour, pins, before)
    costs: dict[str, list[Cost]] = {}
    heading = ""
    for number in range(rounds + 1):
        for place, way in enumerate(ways if number % 2 else ways[::-1]):
            lab.down()
            hosts = prepared(lab.up(count, flavour), packages)
            heading = heading or about(hosts, rounds)
            work = folder / f"{number}-{place}"
            work.mkdir()
            contender = way(hosts, work)
            note(costs, contender.name, number, measure_with_machines(contender, hosts))
        alone = server(folder / "server", count)
        note(costs, alone.name, number, measure(alone, count))
    return costs, heading


def list_ways(
    flavour: Flavour, pins: Pins, before: Path | None
) -> Sequence[Callable[[list[LabHost], Path], Contender]]:
    """Return what makes each contender, of machines and a folder for its files."""
    ways: list[Callable[[list[LabHost], Path], Contender]] = [lambda hosts, work: openssh(hosts, work, pins)]
    if flavour == "apt":
        ways.append(lambda hosts, work: ansible(hosts, work, pins))
    checkouts = (None, before) if before else (None,)
    ways += [
        partial(fleetpatch, pins=pins, is_plain=is_plain, checkout=checkout)
        for is_plain in (True, False)
        for checkout in checkouts
    ]
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_common_options(parser, hosts=10)
    options = parser.parse_args()
    prepare_programs()
    with Lab(f"{options.lab}-patch") as lab, tempfile.TemporaryDirectory() as folder:
        costs, heading = compete(lab, options.flavour, options.hosts, options.rounds, Path(folder), options.before)
        print(f"\n{heading}\n\n{table(costs, _OPENSSH)}\n\n{judge(costs, GOALS)}")


if __name__ == "__main__":
    main()
