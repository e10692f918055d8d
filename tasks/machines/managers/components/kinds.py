"""The kinds of components: what a file of components can name."""

from enum import StrEnum

from inventory.machine import OsFamily


class ComponentKind(StrEnum):
    """How a component is asked for its version, and installed."""

    FILE = "file"  # a file, and commands of the owner
    DEB = "deb"  # a file that dpkg installs
    RPM = "rpm"  # a file that rpm installs
    MSI = "msi"  # a file that Windows Installer installs
    PACKAGE = "package"  # of the machine's repositories: apt, dnf, yum or zypper
    SNAP = "snap"
    FLATPAK = "flatpak"
    WINGET = "winget"
    CHOCO = "choco"

    @property
    def has_file(self) -> bool:
        """Whether each version is a file, with a digest."""
        return self in {ComponentKind.FILE, ComponentKind.DEB, ComponentKind.RPM, ComponentKind.MSI}

    @property
    def family(self) -> OsFamily | None:
        """The family of the systems that have it; None: both."""
        if self is ComponentKind.FILE:
            return None
        is_windows = self in {ComponentKind.MSI, ComponentKind.WINGET, ComponentKind.CHOCO}
        return OsFamily.WINDOWS if is_windows else OsFamily.LINUX
