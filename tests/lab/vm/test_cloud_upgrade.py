"""A new OS disk for a real virtual machine that knows by cloud-init alone who it is."""

import json
from pathlib import Path

import pytest
import yaml

from tests.lab.vm.cloud import PATIENCE, boot_cloud, build_fqdn, build_user_data, get_cloud_image
from tests.lab.vm.image_hosts import VERSION_FILE, ImageHosts
from tests.lab.vm.machines import Vm, VmLab

pytestmark = pytest.mark.slow

LOOK = """cloud-init status --wait; hostname; hostname -f; cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub; echo
ip -4 -o addr show eth0 | tr -s ' ' | cut -d' ' -f4; ip route show default; ls /etc/ssh/ssh_host_*_key"""
INSTANCE = "cat /var/lib/cloud/data/instance-id"


class TestCloudUpgrade:
    """What the new disk has comes from the seed. Its image knows a login, but no name, address, key or repository."""

    def look(self, vm: Vm) -> str:
        return vm.sh(LOOK, root=True, timeout=300)

    def get_disks(self, hosts: ImageHosts) -> tuple[str, str]:
        """Return the file of its OS disk, and that of its CD."""
        rows = hosts.lab.hypervisor.virsh("domblklist", "--inactive", hosts.vms[0].name).splitlines()
        disks = dict(row.split(maxsplit=1) for row in rows)
        assert set(disks) == {"vda", "vdb", "sda"}
        return disks["vda"], disks["sda"]

    def test_the_seed_makes_a_new_disk_the_same_machine_and_without_user_data_it_goes_back(
        self, vm_lab: VmLab, tmp_path: Path
    ) -> None:
        vm = boot_cloud(vm_lab)
        try:
            self.play(vm, tmp_path)
        finally:
            vm.drop()

    def play(self, vm: Vm, place: Path) -> None:
        image = {"/home/patch/.ssh/authorized_keys": vm.key.with_suffix(".pub").read_text(), VERSION_FILE: "any\n"}
        limits = {"reboot_timeout_minutes": PATIENCE / 60}
        hosts = ImageHosts(vm.lab, [vm], place, get_cloud_image(vm.lab), image, limits=limits)
        (place / "web.yaml").write_text(f"#cloud-config\n{yaml.safe_dump(build_user_data(vm))}")
        first, before = self.get_disks(hosts), self.look(vm)
        machine_id = vm.definition()["uuid"].replace("-", "")
        names = [build_fqdn(vm)] * 2
        assert [line for line in before.splitlines() if line][:4] == ["status: done", *names, machine_id], before
        assert f"\n{vm.address}/24\n" in before
        assert first[1] == f"{vm.folder}/seed.iso"

        hosts.describe("2", user_data="web.yaml")
        told = hosts.upgrade("web", "--to", "2", "--roll-back").end(4 * PATIENCE)
        assert [run["upgradedMachineCount"] for run in json.loads(told.out)["runs"]] == [1], told.out
        assert (hosts.read_versions(), self.look(vm)) == (["any"], before)
        assert "192.0.2.53" in vm.sh("cat /etc/systemd/network/*.network", root=True)
        second, instance = self.get_disks(hosts), vm.sh(INSTANCE, root=True)
        assert second[0] != first[0]
        assert second[1] != first[1], "in the place of its owner's"
        assert Path(first[1]).exists()
        assert Path(second[1]).stat().st_mode & 0o077 == 0
        written = Path(second[1]).read_bytes()
        assert (b"PRIVATE KEY" in written, machine_id.encode() in written) == (False, True)

        hosts.describe("2", "3")
        told = hosts.upgrade("web", "--to", "3", "--roll-back").end(4 * PATIENCE)
        assert [run["failedMachineCount"] for run in json.loads(told.out)["runs"]] == [1], told.out
        (update,) = [one for one in hosts.controllers.newest().outcomes[0].updates if one.update.name == "image:web"]
        assert "it could not be set up" in update.reason, update.reason
        assert self.get_disks(hosts) == second, "the disk before is back, with its seed, which has no keys any more"
        assert (self.look(vm), vm.sh(INSTANCE, root=True)) == (before, instance)
        hosts.assert_images()
