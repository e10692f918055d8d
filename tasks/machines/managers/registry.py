"""The table of package managers. A new one needs a line in each table."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from inventory.machine import OsFamily
from tasks.domain.errors import UnsupportedSystem
from tasks.domain.model import Facts
from tasks.domain.protocols.package_manager import PackageManager, Rates
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.image.bootc.tool import BOOTC
from tasks.machines.managers.image.manager import ImageManager
from tasks.machines.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.machines.managers.image.transactional_update.tool import TRANSACTIONAL_UPDATE
from tasks.machines.managers.rpm.manager import DNF, DNF5, YUM, ZYPPER, RpmManager
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager

MANAGER_TYPES: Final[Mapping[str, Callable[[], PackageManager]]] = {
    BOOTC.name: partial(ImageManager, BOOTC),
    RPM_OSTREE.name: partial(ImageManager, RPM_OSTREE),
    TRANSACTIONAL_UPDATE.name: partial(ImageManager, TRANSACTIONAL_UPDATE),
    "apt": AptManager,
    DNF.name: partial(RpmManager, DNF),
    DNF5.name: partial(RpmManager, DNF5),
    YUM.name: partial(RpmManager, YUM),
    ZYPPER.name: partial(RpmManager, ZYPPER),
    WindowsUpdateManager.name: WindowsUpdateManager,
}

_OSTREE: Final = "ostree"
_SILENT_BOOTC: Final = "silent-bootc"
_RED_HAT: Final = ("dnf5", "dnf", "yum")
_SYSTEM_MANAGERS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("debian", "ubuntu"), ("apt",)),
    **dict.fromkeys(("fedora", "rhel", "centos"), _RED_HAT),
    **dict.fromkeys(("suse", "opensuse", "sles"), ("zypper",)),
}
"""The package managers that a system was made with, by ID and ID_LIKE of os-release(5)."""

MANAGER_COMMANDS: Final = (
    f"bootc:{BOOTC.name}:bootc-image",
    f"rpm-ostree:{RPM_OSTREE.name}:ostree",
    f":{_OSTREE}:ostree",  # without a tool that updates it
    f"bootc:{_SILENT_BOOTC}:bootc-silent",
    f"transactional-update:{TRANSACTIONAL_UPDATE.name}:read-only-root",
    "apt-get:apt",
    "dnf5:dnf5",
    "dnf:dnf",
    "yum:yum",
    "zypper:zypper",
)
"""COMMAND:NAME, best first. A machine with the command has that package manager, supported here or not.

COMMAND:NAME:CONDITION is the manager of an image-based system. A machine that meets the condition (see facts.sh) has no
other package manager: its other tools would change packages in an image that they can't change."""

_REASONS: Final[Mapping[str, str]] = {
    _OSTREE: "its root is an OSTree image, and it has neither bootc nor rpm-ostree to update it",
    _SILENT_BOOTC: "its root is read-only, and bootc does not tell whether it is an image",
}


def rank_managers(programs: Mapping[str, str], os_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a machine's package managers, best first.

    Many systems offer the package managers of others as packages. Such a one does not know the locks and the rules of
    the machine's own. So those that the system was made with are first. Among those, dnf 5 is second to another
    ``dnf``, and dnf to a yum that is a program of its own.

    Args:
        programs: name of the package manager -> name of the file behind its command, "" when unknown; in the order of
            MANAGER_COMMANDS, which is kept otherwise.
        os_ids: ID and the words of ID_LIKE of the machine's os-release(5).
    """
    system_managers = next((_SYSTEM_MANAGERS[os_id] for os_id in os_ids if os_id in _SYSTEM_MANAGERS), ())
    added = {"dnf5": programs.get("dnf", "") not in {"", "dnf5"}, "dnf": programs.get("yum", "") == "yum"}
    return tuple(sorted(programs, key=lambda name: (name not in system_managers, added.get(name, False))))


def find_manager(facts: Facts) -> PackageManager:
    """Return the first of the machine's package managers that is supported.

    Raises:
        UnsupportedSystem: none of them is.
    """
    for name in facts.managers:
        if name in MANAGER_TYPES:
            return MANAGER_TYPES[name]()
    managers_text = ", ".join(_REASONS.get(name, name) for name in facts.managers) or "none"
    raise UnsupportedSystem(
        f"{facts.os_name or 'the system'} has no package manager that can be driven (found: {managers_text})",
        hint=f"Known ones: {', '.join(MANAGER_TYPES)}. Remove it from the scope, or set its owner to 'manual'.",
    )


def find_family_manager(family: OsFamily) -> PackageManager | None:
    """Return the package manager that every system of a family has; None: they have different ones."""
    return WindowsUpdateManager() if family is OsFamily.WINDOWS else None


def find_typical_work(family: OsFamily) -> tuple[Rates, int]:
    """Return the speed of a machine of which nothing is known but its family, and its usual number of updates.

    Linux systems with monthly windows get about 20 packages, Windows a cumulative update and two more.
    """
    if family is OsFamily.WINDOWS:
        return WindowsUpdateManager.default_rates, 3
    return AptManager.default_rates, 20


_KERNEL_REMOVALS: Final[Mapping[str, str]] = {
    "apt": "apt-get autoremove --purge",
    "dnf": "dnf remove --oldinstallonly",
    "dnf5": "dnf remove --oldinstallonly",
    "yum": "package-cleanup --oldkernels",
    "zypper": "zypper purge-kernels",
}


def find_kernel_removal(facts: Facts) -> str:
    """Return the command with which an administrator removes kernels that are neither running nor among the newest.

    See apt-get(8), dnf(8), dnf5-remove(8), package-cleanup(1) and zypper(8), which has it since SLES 15. "": not known.
    """
    manager = facts.managers[0] if facts.managers else ""
    is_older = manager == "zypper" and facts.os_version.startswith("12")
    return "" if is_older else _KERNEL_REMOVALS.get(manager, "")
