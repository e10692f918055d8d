"""Real machines that are off in their window: powered on by a command, patched, and off again by themselves."""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.domain.model import RunReport
from tasks.domain.states import FindingLevel, OperationState
from tasks.rules.runs.power import POWER_CHECK
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import SCRIPT, LabHost

pytestmark = pytest.mark.slow

Boot = Callable[[int], list[LabHost]]


def lab_command(verb: str, host: LabHost) -> str:
    """Return the command line of lab.sh, as an owner writes one into the inventory."""
    return f"env FLEETPATCH_LAB={host.lab.name} {SCRIPT} {verb} {host.number}"


def is_on(host: LabHost) -> bool:
    (line,) = [each for each in host.lab.status().splitlines() if host.name in each.split()]
    return " on" in line


def power_of(report: RunReport, host: LabHost) -> str:
    outcome = outcome_of(report, host)
    return "; ".join(finding.message for finding in outcome.findings if finding.check == POWER_CHECK)


@contextmanager
def working_at(host: LabHost) -> Iterator[None]:
    """Have somebody at a terminal of the host, from as soon as it lets people in."""
    words = ["-i", str(host.key), "-o", f"UserKnownHostsFile={host.known_hosts}", "-o", "BatchMode=yes", "-o"]
    words += ["IdentitiesOnly=yes", "-o", "ConnectTimeout=2", "-tt", "-l", "nosudo", host.address, "sleep 600"]
    script = f"until ssh -F none {shlex.join(words)}; do sleep 0.2; done"
    person = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(person.pid, signal.SIGKILL)
        person.wait()


def version(host: LabHost) -> str:
    """Return the version of lab-plain by the disk of a host that may be off."""
    status = (host.root / "var/lib/dpkg/status").read_text().split("\n\n")
    (block,) = [each for each in status if each.startswith("Package: lab-plain\n")]
    return next(line.split()[1] for line in block.splitlines() if line.startswith("Version:"))


def test_hosts_that_are_off_are_powered_on_patched_and_off_again(hosts: Boot, tmp_path: Path) -> None:
    """One powers itself off; one loses its power by the owner's command; on one, somebody works; one answers."""
    sleeper, cut, used, other = hosts(4)
    fleet = Fleet([sleeper, cut, used, other], tmp_path)
    wake = {
        host.name.replace("-", "_"): {"wake": {"command": lab_command("on", host)}} for host in (sleeper, cut, used)
    }
    wake[cut.name.replace("-", "_")]["wake"]["off_command"] = lab_command("off", cut)
    fleet.describe(**wake)
    for host in (sleeper, cut, used):
        host.off()
        assert not is_on(host)

    with working_at(used):
        report = fleet.patch("lab-plain", waves={"at_once": 4})

        told = {host.name: (outcome_of(report, host).state, power_of(report, host)) for host in fleet.hosts}
        assert is_on(used), told
    wanting = [each for outcome in report.outcomes for each in outcome.findings if each.level is not FindingLevel.GOOD]
    assert [state for state, _ in told.values()] == [OperationState.SUCCEEDED] * 4, (told, wanting)
    assert {host.name: version(host) for host in fleet.hosts} == dict.fromkeys(told, "2.0")
    for host in (sleeper, cut):
        assert told[host.name][1].startswith("powered on by this run: a login worked after"), told
        assert "powered off again" in told[host.name][1], told
        assert not is_on(host), told
    assert "it stays on: somebody is logged in: nosudo" in told[used.name][1], told
    assert told[other.name][1] == ""
    assert is_on(other)


def test_a_host_that_was_only_cut_off_is_not_powered_off(hosts: Boot, tmp_path: Path) -> None:
    """The command "powers it on": it gives the network back. The host has run all the time."""
    (host,) = hosts(1)
    fleet = Fleet([host], tmp_path)
    fleet.describe(every={"wake": {"command": lab_command("mend", host)}})
    boot = host.boot_id()
    host.cut()

    report = fleet.patch("lab-plain")

    assert outcome_of(report, host).state is OperationState.SUCCEEDED
    assert "it was on already" in power_of(report, host)
    assert host.boot_id() == boot
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
