"""Which packages change what a machine boots with."""

import pytest

from tasks.machines.managers.live_patches import is_live_patch_package
from tasks.machines.managers.pending_updates import is_boot_package


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linux-image-6.1.0-30-amd64", True),
        ("kernel-default", True),
        ("kernel-core", True),
        ("kernel-uek", True),
        ("kernel6.12", True),
        ("kernel6.12-modules-extra", True),
        ("kernel6.12-headers", False),
        ("kernel6.12-tools-libs", False),
        ("grub2-efi", True),
        ("intel-microcode", True),
        ("proxmox-kernel-6.8.12-4-pve-signed", True),
        ("pve-kernel-5.15", True),
        ("linux-modules-extra-5.15.0-91-generic", True),
        ("linux-oracle", True),
        ("kernel-headers", False),
        ("linux-libc-dev", False),
        ("openssl", False),
        ("kpatch-patch-5_14_0-427_13_1", False),
        ("kernel-livepatch-5_14_21-150400_24_33-default", False),
        ("kernel-livepatch-6.1.12-17.42", False),
        ("kernel-livepatch-tools", False),
        ("kernel-default-livepatch", False),
    ],
)
def test_boot_packages_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_boot_package(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kpatch-patch-5_14_0-427_13_1", True),
        ("kernel-livepatch-5_14_21-150400_24_33-default", True),
        ("uptrack-updates-5.15.0-200.131.27.el9uek.x86_64", True),
        ("kernel-default-livepatch", False),  # it comes with a kernel, which needs a reboot
        ("kernel-core", False),
        ("kpatch", False),
    ],
)
def test_live_patches_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_live_patch_package(name) is expected
