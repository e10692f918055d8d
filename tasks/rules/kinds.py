"""What kind of thing an update is, as far as its name tells: which ones replace what the machine boots or runs on."""

from fnmatch import fnmatchcase
from functools import lru_cache

from tasks.model import Update
from tasks.states import URGENT, Classification

_BOOTED = (
    # Names of what is put into the boot file system, on any distribution that we know.
    "kernel", "kernel-*", "linux-image-*", "linux-generic*", "linux-virtual*", "linux-server*", "linux-cloud-*",
    "linux-aws*", "linux-azure*", "linux-gcp*", "linux-lowlatency*", "initramfs-tools*", "dracut*", "grub*", "shim*",
    "systemd-boot*", "*-microcode", "microcode_ctl", "ucode-*", "linux-firmware*", "firmware-*",
)  # fmt: skip
_NOT_BOOTED = ("kernel-headers*", "kernel-devel*", "kernel-doc*", "kernel-tools*", "kernel-srpm-macros*")


def is_booted(update: Update) -> bool:
    """Return whether an update replaces a kernel, a boot loader or what they load."""
    return _is_booted(update.name)


@lru_cache(maxsize=8192)  # the machines of a fleet lack the same updates
def _is_booted(name: str) -> bool:
    if any(fnmatchcase(name, mask) for mask in _NOT_BOOTED):
        return False
    return any(fnmatchcase(name, mask) for mask in _BOOTED)


def comes_last(update: Update) -> bool:
    """Return whether an update is better installed after the others: it replaces what boots, or asks for a reboot."""
    return update.requires_reboot is True or is_booted(update)


def urgency(update: Update) -> int:
    """Return 0 for critical, 1 for security, 2 for all others: the order in which time is given out."""
    if update.classification is Classification.CRITICAL:
        return 0
    return 1 if update.classification in URGENT else 2
