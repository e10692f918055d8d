"""The order of installation: urgent updates, last updates, and groups that stay together. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

from tasks.model import Update
from tasks.states import URGENT_CLASSIFICATIONS, Classification

_BOOT_PACKAGE_MASKS = (
    # Packages that change the boot file system, on all supported distributions.
    "kernel", "kernel-*", "linux-image-*", "linux-generic*", "linux-virtual*", "linux-server*", "linux-cloud-*",
    "linux-aws*", "linux-azure*", "linux-gcp*", "linux-lowlatency*", "initramfs-tools*", "dracut*", "grub*", "shim*",
    "systemd-boot*", "*-microcode", "microcode_ctl", "ucode-*", "linux-firmware*", "firmware-*",
)  # fmt: skip
_NON_BOOT_PACKAGE_MASKS = ("kernel-headers*", "kernel-devel*", "kernel-doc*", "kernel-tools*", "kernel-srpm-macros*")


def is_boot_component(update: Update) -> bool:
    """Return whether an update replaces a kernel, a boot loader, firmware or an initramfs tool."""
    return _is_boot_package_name(update.name)


@lru_cache(maxsize=8192)  # many machines have the same pending updates
def _is_boot_package_name(name: str) -> bool:
    if any(fnmatchcase(name, mask) for mask in _NON_BOOT_PACKAGE_MASKS):
        return False
    return any(fnmatchcase(name, mask) for mask in _BOOT_PACKAGE_MASKS)


def must_install_last(update: Update) -> bool:
    """Return whether an update is installed after the others: a boot component, or an update that needs a reboot."""
    return update.requires_reboot is True or is_boot_component(update)


def rank_urgency(update: Update) -> int:
    """Return the rank of an update: 0 for critical, 1 for security, 2 for others. Lower ranks get time first."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if update.classification in URGENT_CLASSIFICATIONS else 2


def group_updates(updates: Iterable[Update]) -> list[list[Update]]:
    """Return the inseparable units: each group as one list, each update without a group alone. Keep the order."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())
