"""Two real machines of two sites, and a machine of another site behind the address of one that is here."""

import subprocess
import sys
from pathlib import Path

from inventory.sites import SITE_VARIABLE, use_site
from tasks.domain.states import OperationState
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import BootHosts, LabHost

OLD, NEW = {"lab-plain": "1.0"}, {"lab-plain": "2.0"}


def list_traces(host: LabHost) -> str:
    """Return what a visit of fleetpatch leaves on a host."""
    return host.sh("ls -d /var/lib/fleetpatch /run/fleetpatch* 2>/dev/null || true", root=True).strip()


def test_each_site_patches_its_own_machine_and_leaves_the_other_one_alone(hosts: BootHosts, tmp_path: Path) -> None:
    here, there = hosts(2)
    fleet = Fleet([here, there], tmp_path)
    fleet.describe(**{there.name.replace("-", "_"): {"site": "hamburg"}})

    report = fleet.patch("lab-plain", reboot="Never")

    assert outcome_of(report, here).state is OperationState.SUCCEEDED
    assert outcome_of(report, there).state is OperationState.NOT_STARTED
    assert "reached from the site hamburg only" in outcome_of(report, there).reason
    assert (here.package_versions("lab-plain"), there.package_versions("lab-plain")) == (NEW, OLD)
    assert list_traces(there) == ""

    with use_site("hamburg"):
        report = fleet.patch("lab-plain", reboot="Never")

    assert report.run.site == "hamburg"
    assert outcome_of(report, here).state is OperationState.NOT_STARTED
    assert outcome_of(report, there).state is OperationState.SUCCEEDED
    assert there.package_versions("lab-plain") == NEW


def test_a_machine_of_another_site_with_the_same_address_is_not_taken_for_the_one_here(
    host: LabHost, tmp_path: Path
) -> None:
    fleet = Fleet([host], tmp_path)
    fleet.describe(**{host.name.replace("-", "_"): {"site": "hamburg"}})
    keys = tmp_path / "no_keys"
    keys.touch()
    text = fleet.inventory.read_text().replace(str(host.known_hosts), str(keys))
    fleet.inventory.write_text(text)

    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fleetpatch.cli.command", *words, "--inventory", str(fleet.inventory)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    trust = call("doctor", host.name, "--trust-all", "--records", fleet.records_url)
    assert trust.returncode == 1, trust.stderr
    assert "reached from the site hamburg only" in trust.stdout + trust.stderr
    assert keys.read_text() == ""

    doctor = call("doctor", host.name, "--records", fleet.records_url)
    assert doctor.returncode == 1
    assert "reached from the site hamburg only" in doctor.stdout
    assert f"{SITE_VARIABLE}=hamburg" in doctor.stdout
    assert "it answers" not in doctor.stdout
    assert list_traces(host) == ""
