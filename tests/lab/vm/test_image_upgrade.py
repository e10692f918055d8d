"""New OS disks for real virtual machines by libvirt: a good image, and a bad one that goes back."""

import json
from pathlib import Path

import pytest

from tests.lab.vm.conftest import BootVms
from tests.lab.vm.image_hosts import FAULT, IDENTITY, PATIENCE, ImageHosts, find_writers
from tests.lab.vm.machines import VmLab

pytestmark = pytest.mark.slow


def test_four_machines_get_a_good_image_and_a_bad_one_goes_back(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    hosts = ImageHosts(vm_lab, vms(4), tmp_path)
    data, identity, first = hosts.fill_data_disks(), hosts.ask(IDENTITY), hosts.get_os_files()
    hosts.images["2"].chmod(0o644)
    hosts.describe("2", max_batch_percent=50, max_unhealthy_percent=50)
    refused = hosts.upgrade("web", "--to", "2", "--roll-back").end(PATIENCE)
    assert "can be written to" in refused.out, "an image to which somebody may write is no base"
    assert hosts.get_os_files() == first
    hosts.images["2"].chmod(0o444)

    # the disks of machines that were made by hand are of no known version
    told = hosts.upgrade("web", "--to", "2", "--roll-back").end(2 * PATIENCE)
    assert [run["upgradedMachineCount"] for run in json.loads(told.out)["runs"]] == [4], told.out
    assert hosts.read_versions() == ["2"] * 4
    assert (hosts.read_data(), hosts.ask(IDENTITY)) == (data, identity)
    assert hosts.ask("cat /var/log/joined") == ["joined"] * 4
    second = hosts.get_os_files()
    assert set(first.values()).isdisjoint(second.values())
    for file in first.values():
        assert Path(file).exists(), "the disk before is kept"
    hosts.ask("cp -r /usr/share/doc /var/of-the-guest; sync")
    hosts.assert_whole()
    assert find_writers(hosts.images["2"]) == [], "a write of the machine can't reach the image"

    hosts.describe("2", "3")
    told = hosts.upgrade().end(PATIENCE)
    (failed,) = json.loads(told.out)["runs"]
    assert (failed["upgradedMachineCount"], failed["failedMachineCount"]) == (0, 1), told.out
    assert hosts.read_versions() == ["2"] * 4
    assert hosts.get_os_files() == second, "the disk before is back"
    assert (hosts.read_data(), hosts.ask(IDENTITY)) == (data, identity)
    assert hosts.ask("ls -d /var/of-the-guest") == ["/var/of-the-guest"] * 4
    (latest, good, _refused) = hosts.read_history()
    assert (good["code"], good["successfulInstanceCount"], good["failedInstanceCount"]) == ("Completed", 4, 0)
    assert (latest["code"], latest["errorCode"], latest["startedBy"]) == ("Faulted", FAULT, "User")
    counts = [f"{word}InstanceCount" for word in ("successful", "failed", "inProgress", "pending")]
    assert [latest[count] for count in counts] == [0, 1, 0, 3]
    assert (latest["successfullyRolledbackInstanceCount"], latest["failedRolledbackInstanceCount"]) == (1, 0)
    hosts.assert_whole()
