"""The table of package managers. A new one needs a line in each table."""

from collections.abc import Callable, Mapping
from typing import Final

from tasks.errors import UnsupportedSystem
from tasks.managers.apt.manager import AptManager
from tasks.model import Facts
from tasks.protocols.package_manager import PackageManager

MANAGER_TYPES: Final[Mapping[str, Callable[[], PackageManager]]] = {
    "apt": AptManager,
}


MANAGER_COMMANDS: Final = ("apt-get:apt", "dnf5:dnf", "dnf:dnf", "zypper:zypper")
"""COMMAND:NAME, best first. A machine with the command has that package manager, supported here or not."""


def find_manager(facts: Facts) -> PackageManager:
    """Return the first of the machine's package managers that is supported.

    Raises:
        UnsupportedSystem: none of them is.
    """
    for name in facts.managers:
        if name in MANAGER_TYPES:
            return MANAGER_TYPES[name]()
    found = ", ".join(facts.managers) or "none"
    raise UnsupportedSystem(
        f"{facts.os_name or 'the system'} has no package manager that can be driven (found: {found})",
        hint=f"Known ones: {', '.join(MANAGER_TYPES)}. Remove it from the scope, or set its owner to 'manual'.",
    )
