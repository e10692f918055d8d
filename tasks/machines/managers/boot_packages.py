"""Packages of Linux distributions that change what a machine boots with. Pure."""

from fnmatch import fnmatchcase
from functools import lru_cache

_BOOT_PACKAGE_MASKS = (
    # Packages that change the boot file system, on all supported distributions.
    "kernel", "kernel-*", "kernel[0-9]*",  # Amazon Linux: kernel6.12
    "linux-image-*", "linux-generic*", "linux-virtual*", "linux-server*", "linux-cloud-*",
    "linux-aws*", "linux-azure*", "linux-gcp*", "linux-lowlatency*", "linux-oracle*", "linux-oem*", "linux-kvm*",
    "linux-raspi*", "linux-modules-*", "proxmox-kernel-*", "pve-kernel-*", "raspi-firmware", "flash-kernel*",
    "initramfs-tools*", "dracut*", "grub*", "shim*", "systemd-boot*", "*-microcode", "microcode_ctl",
    "ucode-*", "linux-firmware*", "firmware-*",
)  # fmt: skip
_LIVE_PATCH_MASKS = ("kernel-livepatch*", "kernel[0-9]*-livepatch*", "kpatch-patch*", "uptrack-updates-*")
_NON_BOOT_PACKAGE_MASKS = (
    "kernel-headers*", "kernel-devel*", "kernel-doc*", "kernel-tools*", "kernel-srpm-macros*", "kernel-*-livepatch*",
    "kernel[0-9]*-headers*", "kernel[0-9]*-devel*", "kernel[0-9]*-doc*", "kernel[0-9]*-tools*",
    *_LIVE_PATCH_MASKS,
)  # fmt: skip


@lru_cache(maxsize=8192)  # many machines have the same pending updates
def is_boot_package(name: str) -> bool:
    """Return whether a package is a kernel, a boot loader, firmware or an initramfs tool."""
    if any(fnmatchcase(name, mask) for mask in _NON_BOOT_PACKAGE_MASKS):
        return False
    return any(fnmatchcase(name, mask) for mask in _BOOT_PACKAGE_MASKS)


def is_live_patch_package(name: str) -> bool:
    """Return whether a package is a live patch of the running kernel, or a tool for it: it never needs a reboot."""
    return any(fnmatchcase(name, mask) for mask in _LIVE_PATCH_MASKS)
