"""The table of package managers. A new one needs a line in each table.

A package manager is loaded when a machine has it: to load all takes longer than to assess some machines.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any, Final

from inventory.machine import OsFamily
from tasks.domain.errors import UnsupportedSystem
from tasks.domain.model import Facts
from tasks.domain.protocols.package_manager import PackageManager, Rates
from tasks.domain.states import Classification

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "bootc": ("image.manager.ImageManager", "image.bootc.tool.BOOTC"),
    "rpm-ostree": ("image.manager.ImageManager", "image.rpm_ostree.tool.RPM_OSTREE"),
    "transactional-update": ("image.manager.ImageManager", "image.transactional_update.tool.TRANSACTIONAL_UPDATE"),
    "apt": ("apt.manager.AptManager",),
    "dnf": ("rpm.manager.RpmManager", "rpm.manager.DNF"),
    "dnf5": ("rpm.manager.RpmManager", "rpm.manager.DNF5"),
    "yum": ("rpm.manager.RpmManager", "rpm.manager.YUM"),
    "zypper": ("rpm.manager.RpmManager", "rpm.manager.ZYPPER"),
    "windows-update": ("windows_update.manager.WindowsUpdateManager",),
}
"""Where the class of each package manager is, and its tool."""


@cache
def _load(place: str) -> Any:  # noqa: ANN401 - a class or a tool
    module, _, name = place.rpartition(".")
    return getattr(import_module(f"tasks.machines.managers.{module}"), name)


def build_manager(name: str) -> PackageManager:
    """Return the package manager of a name of the table."""
    manager_type, *tool = map(_load, _PLACES[name])
    manager: PackageManager = manager_type(*tool)
    return manager


MANAGER_TYPES: Final[Mapping[str, Callable[[], PackageManager]]] = {
    name: partial(build_manager, name) for name in _PLACES
}

_ANY_CLASS: Final = {Classification.OTHER, Classification.UNCLASSIFIED}
_RATED: Final = frozenset({*_ANY_CLASS, Classification.CRITICAL, Classification.SECURITY})
POSSIBLE_CLASSES: Final[Mapping[str, frozenset[Classification]]] = {
    "apt": frozenset({*_ANY_CLASS, Classification.SECURITY, Classification.SECURITY_ESM}),
    **dict.fromkeys(("dnf", "dnf5", "yum", "zypper", "rpm-ostree", "transactional-update"), _RATED),
    "bootc": frozenset(_ANY_CLASS),
    "windows-update": frozenset(Classification) - {Classification.SECURITY_ESM},
}
"""The classifications that updates of each package manager can have. Other is also what components beside it have."""
USUAL_MANAGERS: Final = ("apt", "dnf", "zypper")
"""What a machine may have that was never assessed, and whose family has several."""

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
    "bootc:bootc:bootc-image",
    "rpm-ostree:rpm-ostree:ostree",
    f":{_OSTREE}:ostree",  # without a tool that updates it
    f"bootc:{_SILENT_BOOTC}:bootc-silent",
    "transactional-update:transactional-update:read-only-root",
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
    return build_manager("windows-update") if family is OsFamily.WINDOWS else None


def find_typical_work(family: OsFamily) -> tuple[Rates, int]:
    """Return the speed of a machine of which nothing is known but its family, and its usual number of updates.

    Linux systems with monthly windows get about 20 packages, Windows a cumulative update and two more.
    """
    if family is OsFamily.WINDOWS:
        return build_manager("windows-update").default_rates, 3
    return build_manager("apt").default_rates, 20


_KERNEL_REMOVALS: Final[Mapping[str, str]] = {
    "apt": "apt-get autoremove",
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
