"""Upgrades of real virtual machines by libvirt, whose controllers die at each step."""

import time
from pathlib import Path

import pytest

from tasks.records.setup import open_records
from tests.lab.killing import Controller
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.image_hosts import IDENTITY, PATIENCE, ImageHosts
from tests.lab.vm.machines import VmLab

pytestmark = pytest.mark.slow

KEPT_BY_THE_SEED = {"identity": {"host_keys": False, "machine_id": False}}


class Killer:
    """Kills the controller once at each step: what the journal has last, the machine's power, and which disk it has."""

    def __init__(self, hosts: ImageHosts) -> None:
        self.hosts = hosts
        self.steps: list[str] = []
        self._ended: set[str] = set()

    def name_step(self) -> str:
        """Return where the run is now; "": it has not begun with a machine."""
        entries = [entry for entry in self.hosts.controllers.journal() if entry.machine]
        if not entries or entries[-1].run_id in self._ended:
            return ""
        last = entries[-1]
        vm = next(vm for vm in self.hosts.vms if vm.name == last.machine)
        is_new = f"{vm.folder}/os.qcow2" not in self.hosts.lab.hypervisor.virsh("domblklist", "--inactive", vm.name)
        return f"{last.act} {last.mark}, {vm.power()}, {'new' if is_new else 'old'} disk"

    def play(self, controller: Controller) -> bool:
        """Kill a controller at the first step that no other one was killed at. Return whether it was."""
        until = time.monotonic() + PATIENCE
        while controller.process.poll() is None:
            assert time.monotonic() < until, self.steps
            step = self.name_step()
            if step and step not in self.steps:
                controller.kill()
                self.steps.append(step)
                return True
            time.sleep(0.05)
        return False

    def end_leases(self) -> None:
        """Spare the wait for the leases of the dead process: that of the run, and that of its group."""
        with open_records(self.hosts.fleet.records_url) as records:
            for name in (self.hosts.controllers.newest().run.id, "upgrade-of-image:web"):
                lease = records.leases.find_lease(name)
                if lease is not None and lease.holder is not None:
                    records.leases.release(name, lease.holder)

    def upgrade(self, *words: str) -> None:
        """Upgrade the group, with a controller for each step."""
        controller = self.hosts.upgrade(*words)
        while self.play(controller):
            self.hosts.get_os_files()
            self.end_leases()
            controller = self.hosts.controllers.start("resume", "last", "--no-prefect", "--json")
        self._ended.add(self.hosts.controllers.newest().run.id)


def test_controllers_that_die_at_each_step_lose_no_machine(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    hosts = ImageHosts(vm_lab, vms(2), tmp_path)
    data, identity = hosts.fill_data_disks(), hosts.ask(IDENTITY)
    hosts.describe("2", **KEPT_BY_THE_SEED)
    killer = Killer(hosts)
    for _ in range(4):
        killer.upgrade("web", "--to", "2", "--roll-back")
        hosts.assert_whole()
        if hosts.read_versions() == ["2"] * 2:
            break
    assert hosts.read_versions() == ["2"] * 2
    hosts.describe("2", "3", **KEPT_BY_THE_SEED)
    killer.upgrade("web", "--roll-back")
    assert hosts.read_versions() == ["2"] * 2
    assert (hosts.read_data(), hosts.ask(IDENTITY)) == (data, identity)
    assert hosts.ask("sort -u /var/log/joined") == ["joined"] * 2
    hosts.assert_whole()
    acts = {step.split(",")[0] for step in killer.steps}
    assert {"replace-os-disk before", "image-script before", "restore-os-disk before"} <= acts, killer.steps
    assert sum("shut off" in step for step in killer.steps) >= 2, killer.steps
    assert hosts.read_history()[0]["successfullyRolledbackInstanceCount"] == 1
