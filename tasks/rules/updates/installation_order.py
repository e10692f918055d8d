"""In which order updates are installed: what is urgent, what goes last, and what must stay together. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

from tasks.model import Update
from tasks.states import URGENT_CLASSIFICATIONS, Classification

_BOOT_PACKAGE_MASKS = (
    # Names of what is put into the boot file system, on any distribution that we know.
    "kernel", "kernel-*", "linux-image-*", "linux-generic*", "linux-virtual*", "linux-server*", "linux-cloud-*",
    "linux-aws*", "linux-azure*", "linux-gcp*", "linux-lowlatency*", "initramfs-tools*", "dracut*", "grub*", "shim*",
    "systemd-boot*", "*-microcode", "microcode_ctl", "ucode-*", "linux-firmware*", "firmware-*",
)  # fmt: skip
_NON_BOOT_PACKAGE_MASKS = ("kernel-headers*", "kernel-devel*", "kernel-doc*", "kernel-tools*", "kernel-srpm-macros*")


def is_boot_component(update: Update) -> bool:
    """Return whether an update replaces a kernel, a boot loader or what they load."""
    return _is_boot_package_name(update.name)


@lru_cache(maxsize=8192)  # the machines of a fleet lack the same updates
def _is_boot_package_name(name: str) -> bool:
    if any(fnmatchcase(name, mask) for mask in _NON_BOOT_PACKAGE_MASKS):
        return False
    return any(fnmatchcase(name, mask) for mask in _BOOT_PACKAGE_MASKS)


def must_install_last(update: Update) -> bool:
    """Return whether an update is better installed after the others: it replaces what boots, or asks for a reboot."""
    return update.requires_reboot is True or is_boot_component(update)


def rank_urgency(update: Update) -> int:
    """Return 0 for critical, 1 for security, 2 for all others: the order in which time is given out."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if update.classification in URGENT_CLASSIFICATIONS else 2


def group_updates(updates: Iterable[Update]) -> list[list[Update]]:
    """Return updates as what can't be parted: each group whole, each update without a group alone. Order is kept."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())
