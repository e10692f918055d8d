"""Kernels and /boot of machines that have their own: updates of them, and the boot into them."""

from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.machine_checks.precheck import NEXT_BOOT_CHECK
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.machines import Vm

KERNEL = "linux-image-cloud-amd64"


@pytest.fixture
def vm(vms: BootVms) -> Vm:
    """One machine, whose kernel has an update."""
    return vms(1)[0]


def patch(vm: Vm, place: Path, update: str, **machine: Any) -> Outcome:
    fleet = Fleet([vm], place)
    fleet.describe(every=machine)
    return outcome_of(fleet.patch(update, reboot="Always"), vm)


def test_a_kernel_without_initramfs_is_not_booted(vm: Vm, tmp_path: Path) -> None:
    vm.sh("k=$(uname -r); cp /boot/vmlinuz-$k /boot/vmlinuz-$k.9; mkdir /lib/modules/$k.9", root=True)
    boot = vm.boot_id()

    outcome = patch(vm, tmp_path, "lab-plain")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, "the update itself is no kernel"
    assert (vm.boot_id(), outcome.reboot) == (boot, RebootState.NOT_NEEDED)
    assert "refused: the kernel 6.1" in outcome.reason
    assert "cloud-amd64.9 in /boot has no initramfs" in outcome.reason
    assert "Make it on the machine: update-initramfs -c -k" in outcome.reason
    (finding,) = [finding for finding in outcome.findings if finding.check == NEXT_BOOT_CHECK]
    assert finding.level is FindingLevel.WARN


def test_a_full_boot_partition_is_found_before_a_kernel_is_installed(vm: Vm, tmp_path: Path) -> None:
    vm.sh("n=$(df --output=avail -k /boot | tail -n1); fallocate -l $((n - 12000))k /boot/fill", root=True)
    before = vm.sh("ls /boot; dpkg-query -W")

    outcome = patch(vm, tmp_path, KERNEL)

    assert outcome.state is OperationState.FAILED
    assert "/boot has 11 MiB free" in outcome.reason or "/boot has 12 MiB free" in outcome.reason
    assert vm.sh("ls /boot; dpkg-query -W") == before


def test_a_kernel_is_updated_and_booted_and_the_old_one_is_kept(vm: Vm, tmp_path: Path) -> None:
    old, boot = vm.sh("uname -r").strip(), vm.boot_id()

    outcome = outcome_of(Fleet([vm], tmp_path).patch(KERNEL, reboot="IfRequired"), vm)

    assert outcome.reboot is RebootState.COMPLETED, outcome.reason
    assert result_of(outcome, KERNEL).state is UpdateState.INSTALLED
    new = vm.sh("uname -r").strip()
    assert new != old
    reboot = outcome.reboot_result
    assert reboot is not None
    assert (reboot.boot_id_before, reboot.boot_id_after) == (boot, vm.boot_id())
    assert f"kernel {new} is installed, {old} is running" in reboot.reason
    assert f"needrestart: kernel {new} is installed, {old} is running" in reboot.reason
    assert f"Loading Linux {new}" in vm.console, "the boot was GRUB's"
    there = vm.sh("cd /boot; ls initrd.img-* vmlinuz-*").split()
    assert there == [f"{file}-{kernel}" for file in ("initrd.img", "vmlinuz") for kernel in (old, new)]
    assert vm.sh("dpkg --audit", root=True).strip() == ""
    assert "NEEDRESTART-KSTA: 1" in vm.sh("needrestart -b -k", root=True)
