"""Services that run files which updates have replaced: which a run may restart, and what is said of the others."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from tasks.model import Finding, PackageState
from tasks.states import FindingLevel

SERVICE_RESTART_CHECK = "services-to-restart"
"""The check of what runs replaced files, and of what became of restarting it."""

NEVER_RESTARTED_UNITS = (
    # they hold logins, and the line of this run
    *("ssh.service", "ssh@*", "sshd.service", "sshd@*"),
    *("dbus*", "systemd-logind.service", "elogind.service", "user@*"),
    *("display-manager.service", "gdm*", "greetd.service", "kdm*", "lightdm*", "lxdm*", "ly.service", "nodm*", "sddm*"),
    *("slim.service", "wdm*", "xdm*", "*getty@*", "console-getty.service"),
    # they hold the network
    *(
        "networking.service",
        "network-manager.service",
        "NetworkManager*",
        "ModemManager*",
        "wpa_supplicant*",
        "iwd.service",
    ),
    *("openvpn*", "*swan*", "wg-quick@*", "bird*", "frr.service", "quagga*", "tinc*"),
    # what runs below them goes down too
    *("docker*", "containerd*", "libvirt*", "virtlogd.service", "virtlockd.service", "virtqemud.service", "lxcfs*"),
    *("xendomains.service", "zfs-fuse.service"),
    # they run once, or are at work themselves
    *("emergency.service", "rescue.service", "rc-local.service", "apt-daily*", "unattended-upgrades.service", "cron-*"),
    "fleetpatch-*",
)
"""Masks of units that no run restarts, as needrestart leaves them alone too. A reboot renews them."""

_UNIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*\.service")
_MAX_NAMES_SHOWN = 8


def build_protected_unit_masks(exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the masks of all units that a run leaves alone: the product's own, and its owner's."""
    return (*NEVER_RESTARTED_UNITS, *exclude)


def find_restartable_services(packages: PackageState | None, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the services that run replaced files and that a run may restart, in the machine's order.

    Args:
        packages: what the package manager says; None when it was not asked.
        exclude: masks of units that their owner wants left alone.
    """
    masks = build_protected_unit_masks(exclude)
    names = packages.services_to_restart if packages else ()
    return tuple(name for name in names if _UNIT_PATTERN.fullmatch(name) and not _is_matching_any_mask(name, masks))


def check_outdated_services(packages: PackageState, exclude: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return a warning of the services that run replaced files, or nothing. A reboot has restarted all of them."""
    names = packages.services_to_restart
    if not names:
        return ()
    others = find_restartable_services(packages, exclude)
    left = [name for name in names if name not in others]
    remedies = (
        [f"Restart {join_first_services(others)}, or have a run do so (restart_services: IfRequired)."]
        if others
        else []
    )
    remedies += [f"No run restarts {join_first_services(left)}: a reboot does, or you by hand."] if left else []
    count = "1 service still runs" if len(names) == 1 else f"{len(names)} services still run"
    message = f"{count} files that updates have replaced: {join_first_services(names)}"
    return (Finding(SERVICE_RESTART_CHECK, FindingLevel.WARN, message, " ".join(remedies)),)


def join_first_services(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _MAX_NAMES_SHOWN} more" if len(every) > _MAX_NAMES_SHOWN else ""
    return ", ".join(every[:_MAX_NAMES_SHOWN]) + more


def _is_matching_any_mask(name: str, masks: Iterable[str]) -> bool:
    stem = name.removesuffix(".service")
    return any(fnmatchcase(name, mask) or fnmatchcase(stem, mask) for mask in masks)
