"""The lab's virtual machines: what tests that use them take for granted."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.lab.fleet import LabError
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.hypervisor import Hypervisor
from tests.lab.vm.machines import VmLab


def test_machines_that_continue_from_a_memory_are_machines_of_their_own(vm_lab: VmLab, vms: BootVms) -> None:
    first, second = vms(2)
    for vm in (first, second):
        assert vm.sh("hostname").strip() == vm.name
        assert vm.sh("ps -o comm= -p 1").strip() == "systemd"
        assert vm.sh("systemctl --failed --no-legend").strip() == ""
        assert vm.sh("findmnt -no SOURCE /boot; findmnt -no SOURCE /").split() == ["/dev/vda1", "/dev/vda2"]
        assert abs(int(vm.sh("date +%s")) - int(first.sh("date +%s"))) < 60
    assert first.sh("cat /etc/machine-id") != second.sh("cat /etc/machine-id")
    assert first.sh(f"timeout 20 bash -c 'head -c 4 < /dev/tcp/{second.address}/22'") == "SSH-"
    assert first.pending_security() > 10
    second.sh("printf second | dd of=/dev/vdb conv=fsync 2>/dev/null; echo second > /boot/mark", root=True)
    assert first.sh("head -c 6 /dev/vdb; cat /boot/mark || true", root=True).strip("\0") == ""
    second.crash()
    second.wait_login()
    assert second.sh("head -c 6 /dev/vdb", root=True) == "second"
    assert "Loading Linux 6.1" in second.console, "the boot was GRUB's"
    assert second.sh("cat /sys/class/net/eth0/address").strip() == second.definition()["mac"]
    _nothing_wrote_to_the_base(vm_lab)


def _nothing_wrote_to_the_base(lab: VmLab) -> None:
    assert lab.image.stat().st_mode & 0o777 == 0o444
    recorded = lab.image.with_name("disk.raw.sha256").read_text().split()[0]
    with lab.image.open("rb") as base:
        assert hashlib.file_digest(base, "sha256").hexdigest() == recorded


@pytest.mark.usefixtures("vm_lab")
def test_a_command_that_fails_on_the_hypervisor_is_told() -> None:
    with TemporaryDirectory(prefix="fp-libvirt-") as place:  # a short path: it has a socket
        hypervisor = Hypervisor(Path(place, "libvirt"))
        hypervisor.start()
        try:
            with pytest.raises(LabError, match="failed to get domain 'nobody'"):
                hypervisor.virsh("domstate", "nobody")
        finally:
            hypervisor.stop()
