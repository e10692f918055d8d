"""What the pending updates of Linux's package managers have in common. Pure."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypeVar

from inventory.name_lists import join_first_names
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.machines.managers.live_patches import LIVE_PATCH_MASKS

T = TypeVar("T")

_BOOT_PACKAGE_MASKS = (
    # Packages that change the boot file system, on all supported distributions.
    "kernel", "kernel-*", "kernel[0-9]*",  # Amazon Linux: kernel6.12
    "linux-image-*", "linux-generic*", "linux-virtual*", "linux-server*", "linux-cloud-*",
    "linux-aws*", "linux-azure*", "linux-gcp*", "linux-lowlatency*", "linux-oracle*", "linux-oem*", "linux-kvm*",
    "linux-raspi*", "linux-modules-*", "proxmox-kernel-*", "pve-kernel-*", "raspi-firmware", "flash-kernel*",
    "initramfs-tools*", "dracut*", "grub*", "shim*", "systemd-boot*", "*-microcode", "microcode_ctl",
    "ucode-*", "linux-firmware*", "firmware-*",
)  # fmt: skip
_NON_BOOT_PACKAGE_MASKS = (
    "kernel-headers*", "kernel-devel*", "kernel-doc*", "kernel-tools*", "kernel-srpm-macros*", "kernel-*-livepatch*",
    "kernel[0-9]*-headers*", "kernel[0-9]*-devel*", "kernel[0-9]*-doc*", "kernel[0-9]*-tools*",
    *LIVE_PATCH_MASKS,
)  # fmt: skip


@lru_cache(maxsize=8192)  # many machines have the same pending updates
def is_boot_package(name: str) -> bool:
    """Return whether a package is a kernel, a boot loader, firmware or an initramfs tool."""
    if any(fnmatchcase(name, mask) for mask in _NON_BOOT_PACKAGE_MASKS):
        return False
    return any(fnmatchcase(name, mask) for mask in _BOOT_PACKAGE_MASKS)


def describe_unclassified(updates: Iterable[Update], sources: str) -> tuple[str, ...]:
    """Return a sentence about the origins of pending updates without a classification, or ().

    ``sources`` says what such origins are. What is held does not count: that is a person's decision.
    """
    unclear = (u for u in updates if u.classification is Classification.UNCLASSIFIED and not u.held)
    if not (origins := sorted({origin for update in unclear for origin in update.origins})):
        return ()
    return (
        f"{sources}: {join_first_names(origins)}. Which of their updates fix security faults is not known: select "
        'these as "Unclassified", or by name',
    )


def build_new_packages(
    packages: Mapping[str, T],
    upgrades: Iterable[Update],
    list_needs: Callable[[Update], Iterable[str]],
    build: Callable[[T, Update | None], Update],
) -> list[Update]:
    """Return the new packages that upgrades install as dependencies (a kernel's metapackage installs the kernel).

    Args:
        packages: id -> new package.
        upgrades: the updates of installed packages.
        list_needs: returns ids of new packages that an update needs. A new package may be needed by a new one.
        build: returns the update of a new package, from the first update that needs it; None: no known one does.
    """
    waiting = dict(packages)
    updates: list[Update] = []
    bringers = deque(upgrades)
    while bringers:
        bringer = bringers.popleft()
        for package_id in list_needs(bringer):
            if package_id in waiting:
                updates.append(build(waiting.pop(package_id), bringer))
                bringers.append(updates[-1])
    return [*updates, *(build(package, None) for package in waiting.values())]
