"""Power cuts in the installation of a kernel, on a machine that boots it: never into one without initramfs."""

from pathlib import Path
from typing import Any

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.killing import Controllers
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.hypervisor import wait_until
from tests.lab.vm.machines import Vm

pytestmark = pytest.mark.slow

KERNEL = "linux-image-cloud-amd64"
IS_UNPACKING = "ls /boot/vmlinuz-*.dpkg-new"
FIND_HALF = "cd /boot; for k in vmlinuz-*[!w]; do [ -e initrd.img-${k#vmlinuz-} ] || echo ${k#vmlinuz-}; done"
"""Prints the kernels without initramfs. What is being unpacked ends with .dpkg-new. So it does again after a cut that
comes before /boot has written down its new name, while dpkg's database, on another file system, has it as unpacked.
"""
PATIENCE = 900.0  # seconds for a part of a kernel's installation on QEMU without KVM, on cores that others use


@pytest.fixture
def vm(vms: BootVms) -> Vm:
    return vms(1)[0]


def cut_power(vm: Vm, fleet: Fleet, at: str, **request: Any) -> Outcome:
    """Update the kernel, and cut the power as soon as a command on the machine prints something."""
    controllers = Controllers(fleet)
    updates = {"classifications": [], "include": [KERNEL]}
    controller = controllers.patch(updates=updates, reboot="Always", **request)
    wait_until(lambda: vm.sh(at).strip(), PATIENCE, f"nothing to see: {at}")
    vm.crash()
    controller.end(PATIENCE)
    return outcome_of(controllers.newest(), vm)


def test_power_cuts_in_a_kernels_installation_are_repaired(vm: Vm, tmp_path: Path) -> None:
    fleet, old = Fleet([vm], tmp_path), vm.sh("uname -r").strip()
    boots = [vm.boot_id()]
    for at, repair in ((IS_UNPACKING, False), (FIND_HALF, True)):
        cut = cut_power(vm, fleet, at, repair=repair)
        boots.append(vm.boot_id())
        assert (cut.state, cut.reboot) == (OperationState.FAILED, RebootState.NOT_NEEDED), cut.reason
        assert "the job's process is gone and left no result: a power cut, or it was killed" in cut.reason
        assert vm.sh("uname -r").strip() == old
    assert len(set(boots)) == 3

    new = vm.sh(f"apt-cache depends {KERNEL} | sed -n 's/.* linux-image-//p' | head -n 1").strip()
    assert new != old
    refused = outcome_of(fleet.patch("lab-plain", reboot="Always"), vm)
    assert (refused.state, vm.boot_id()) == (OperationState.FAILED, boots[-1])
    assert "the package manager is not healthy" in refused.reason

    mended = outcome_of(fleet.patch(KERNEL, reboot="Always", repair=True), vm)
    assert (mended.state, mended.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), mended.reason
    assert result_of(mended, KERNEL).state is UpdateState.INSTALLED
    assert mended.reboot_result is not None
    assert (mended.reboot_result.boot_id_before, mended.reboot_result.boot_id_after) == (boots[-1], vm.boot_id())
    assert f"needrestart: kernel {new} is installed, {old} is running" in mended.reboot_result.reason
    assert vm.sh(f"uname -r; dpkg --audit; dpkg --verify linux-image-{new}", root=True).strip() == new
    there = vm.sh("cd /boot; ls initrd.img-* vmlinuz-*").split()
    assert there == [f"{file}-{kernel}" for file in ("initrd.img", "vmlinuz") for kernel in (old, new)]
