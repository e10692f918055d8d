"""Kernels and /boot of machines that have their own: updates of them, the boot into them, and boots that fail."""

from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tasks.rules.machine_checks.precheck import NEXT_BOOT_CHECK
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.killing import Controllers
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.hypervisor import wait_until
from tests.lab.vm.machines import Vm

KERNEL = "linux-image-cloud-amd64"
GRUB_DISK = "grub-pc grub-pc/install_devices multiselect"
OFFER_GRUB = f"""set -e; cd /var/tmp; mkdir -p new/DEBIAN repo; cd new
dpkg -L grub-pc | while read -r file; do [ ! -f "$file" ] || cp --parents -p "$file" .; done
for file in /var/lib/dpkg/info/grub-pc.*; do
  case $file in *.list | *.md5sums) ;; *) cp -p "$file" "DEBIAN/${{file##*.}}" ;; esac; done
dpkg-query -s grub-pc | sed -e '/^Status:/d' -e 's/^Version: .*/&.1/' -e '/^Conffiles:/d' -e '/^ [/]/d' >DEBIAN/control
cd ..; dpkg-deb -b new repo/grub-pc.deb >/dev/null; cd repo
{{ dpkg-deb -f grub-pc.deb; echo "Filename: ./grub-pc.deb"; stat -c 'Size: %s' grub-pc.deb
  echo "SHA256: $(sha256sum grub-pc.deb | cut -c1-64)"; }} >Packages
echo 'deb [trusted=yes] file:/var/tmp/repo ./' >>/etc/apt/sources.list
echo '{GRUB_DISK} ' | debconf-set-selections
"""
"""An update of GRUB with the installed one's files and scripts, on a machine on which nobody said where GRUB goes."""


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


def test_a_boot_that_fails_is_told(vm: Vm, tmp_path: Path) -> None:
    kernel = vm.sh("uname -r").strip()
    vm.sh("echo garbage > /boot/initrd.img-$(uname -r)", root=True)

    outcome = patch(vm, tmp_path, "lab-plain", limits={"reboot_timeout_minutes": 1.5})

    wait_until(lambda: "Kernel panic" in vm.console, 300, "it boots")
    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.FAILED)
    assert outcome.reason == "the reboot failed: the reboot policy is Always; it did not come back after 90 s"
    assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
    commands = Controllers(Fleet([vm], tmp_path))
    shown = commands.start("show", "last").end().out
    assert f"let its boot loader start the one that it ran: {kernel}" in " ".join(shown.split())
    listed = commands.start("machines", vm.name).end().out
    assert "not ready" in listed.lower(), listed


def test_grub_that_would_ask_for_its_disk_fails_and_nothing_is_rebooted(vm: Vm, tmp_path: Path) -> None:
    vm.sh(OFFER_GRUB, root=True)
    boot = vm.boot_id()

    failed = patch(vm, tmp_path, "grub-pc")

    assert failed.state is OperationState.FAILED, failed.reason
    assert "You must correct your GRUB install devices before proceeding" in failed.reason
    assert (vm.boot_id(), failed.reboot) == (boot, RebootState.NOT_NEEDED)
    assert failed.reboot_result is not None
    assert "not rebooted although the reboot policy is Always" in failed.reboot_result.reason
    vm.sh(f"echo {GRUB_DISK} /dev/vda | debconf-set-selections", root=True)
    mended = outcome_of(Fleet([vm], tmp_path).patch("grub-pc", reboot="Always", repair=True), vm)
    assert mended.reboot is RebootState.COMPLETED, mended.reason
    assert vm.sh("dpkg --audit", root=True).strip() == ""
