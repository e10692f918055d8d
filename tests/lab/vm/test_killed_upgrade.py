"""Upgrades of real virtual machines by libvirt, whose controllers die at each step."""

import os
import signal
import time
from pathlib import Path

import pytest

from tasks.records.setup import open_records
from tasks.steps.context.journal import REPLACE_ACT, RESTORE_ACT
from tests.lab.killing import Controller, began
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.image_hosts import IDENTITY, PATIENCE, ImageHosts
from tests.lab.vm.machines import VmLab

pytestmark = pytest.mark.slow

KEPT_BY_THE_SEED = {"identity": {"host_keys": False, "machine_id": False, "network": False}}
"""The lab's own seed brings all of it, so that an order goes on where a controller died while the machine was off."""


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


def kill_while_off(hosts: ImageHosts, controller: Controller, of_act: str, *, is_exchanged: bool) -> None:
    """Kill a controller when its journal has the act and the one machine is off, with its disk before or after that.

    The lease of the dead process is spared, so that the next one follows at once.
    """
    (vm,) = hosts.vms
    hosts.controllers.wait_until(began(of_act), of_act, PATIENCE)
    before, until = hosts.get_os_file(vm), time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < until
        assert controller.process.poll() is None, controller.end()
        if vm.power() != "shut off":
            continue
        os.kill(controller.process.pid, signal.SIGSTOP)  # a command that it has begun ends meanwhile
        has_other = hosts.get_os_file(vm) != before
        if vm.power() == "shut off" and has_other is is_exchanged:
            break
        os.kill(controller.process.pid, signal.SIGCONT)
    controller.kill()
    Killer(hosts).end_leases()


def resume(hosts: ImageHosts) -> str:
    """Take the newest run up, to its end. Return the one machine's state and the reason."""
    told = hosts.controllers.start("resume", "last", "--no-prefect", "--json").end(PATIENCE)
    (machine,) = told.json["machines"]
    return f"{machine['status']}: {machine['reason']}"


def test_a_machine_that_a_dead_controller_left_off_runs_again(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    hosts = ImageHosts(vm_lab, vms(1), tmp_path)
    hosts.limit_orders(minutes=2)
    data, identity, first = hosts.fill_data_disks(), hosts.ask(IDENTITY), hosts.get_os_files()
    hosts.describe("2")

    kill_while_off(hosts, hosts.upgrade("web", "--to", "2", "--roll-back"), REPLACE_ACT, is_exchanged=False)
    outcome = resume(hosts)  # its identity is on the old disk alone, and nobody can read it
    assert outcome.startswith("Failed"), outcome
    assert "was interrupted" in outcome
    assert hosts.get_os_files() == first
    hosts.assert_whole()

    kill_while_off(hosts, hosts.upgrade("web", "--to", "2", "--roll-back"), REPLACE_ACT, is_exchanged=True)
    assert resume(hosts).startswith("Succeeded")
    assert hosts.read_versions() == ["2"]
    second = hosts.get_os_files()
    hosts.assert_whole()

    hosts.describe("2", "3")
    for is_exchanged in (False, True):
        kill_while_off(hosts, hosts.upgrade("web", "--to", "3", "--roll-back"), RESTORE_ACT, is_exchanged=is_exchanged)
        outcome = resume(hosts)
        assert outcome.startswith("Failed"), outcome
        assert "its disk before is back" in outcome
        assert hosts.get_os_files() == second
        assert hosts.read_history()[0]["successfullyRolledbackInstanceCount"] == 1
        hosts.assert_whole()
    assert (hosts.read_data(), hosts.ask(IDENTITY)) == (data, identity)
