"""Services that use files which updates have replaced: which of them a run may restart. Pure."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Finding, PackageState
from tasks.rules.machine_checks.findings import build_warning

SERVICE_RESTART_CHECK = "services-to-restart"
"""The check of services that use replaced files, and of their restarts."""

SYSTEM_MANAGER = "systemd itself"
"""Process 1 in the lists of services that run replaced files. It is no unit."""

NEVER_RESTARTED_UNITS = (
    # they hold logins and the connection of this run
    *("ssh.service", "ssh@*", "sshd.service", "sshd@*"),
    *("dbus*", "systemd-logind.service", "elogind.service", "user@*"),
    *("display-manager.service", "gdm*", "greetd.service", "kdm*", "lightdm*", "lxdm*", "ly.service", "nodm*", "sddm*"),
    *("slim.service", "wdm*", "xdm*", "*getty@*", "console-getty.service"),
    # they provide the network
    *(
        "networking.service",
        "network-manager.service",
        "NetworkManager*",
        "ModemManager*",
        "wpa_supplicant*",
        "iwd.service",
    ),
    *("openvpn*", "*swan*", "wg-quick@*", "bird*", "frr.service", "quagga*", "tinc*"),
    # a restart also stops the programs below them
    *("docker*", "containerd*", "libvirt*", "virtlogd.service", "virtlockd.service", "virtqemud.service", "lxcfs*"),
    *("xendomains.service", "zfs-fuse.service"),
    # they run once
    *("emergency.service", "rescue.service", "rc-local.service", "cron-*"),
    "fleetpatch-*",
)
"""Masks of units that no run restarts (needrestart does not restart them either). A reboot restarts them."""

_UNIT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*\.service")


def build_protected_unit_masks(updater_units: Iterable[str], exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the masks of all units that a run does not restart: the built-in masks, the updaters, and the owner's."""
    return (*NEVER_RESTARTED_UNITS, *updater_units, *exclude)


def find_restartable_services(packages: PackageState | None, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the services that use replaced files and that a run may restart, in the machine's order.

    Args:
        packages: package state of the machine; None when it was not read.
        exclude: the owner's masks of units that a run must not restart.
    """
    if packages is None:
        return ()
    names, masks = packages.services_to_restart, build_protected_unit_masks(packages.updater_units, exclude)
    return tuple(name for name in names if _UNIT_PATTERN.fullmatch(name) and not _is_matching_any_mask(name, masks))


def check_outdated_services(packages: PackageState, exclude: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return a warning about services that use replaced files, or nothing. After a reboot there are none."""
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
    remedies += ["`systemctl daemon-reexec` restarts systemd itself."] if SYSTEM_MANAGER in left else []
    counted = format_count(len(names), "service", ("still runs", "still run"))
    message = f"{counted} files that updates have replaced: {join_first_services(names)}"
    return (build_warning(SERVICE_RESTART_CHECK, message, " ".join(remedies)),)


def join_first_services(names: Iterable[str]) -> str:
    """Return the first eight names and the number of the others."""
    return join_first_names(tuple(names), 8)


def _is_matching_any_mask(name: str, masks: Iterable[str]) -> bool:
    stem = name.removesuffix(".service")
    return any(fnmatchcase(name, mask) or fnmatchcase(stem, mask) for mask in masks)
