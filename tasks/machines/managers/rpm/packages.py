"""Names and versions of RPM packages, as the rpm families write them. Pure.

An update's id is the package's name, with ".ARCH" only if that is a foreign architecture ("glibc.i686" on x86_64). A
version is "EPOCH:VERSION-RELEASE", without an epoch of 0.
"""

import re
from collections.abc import Mapping
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.model import Update
from tasks.machines.managers.script_output import group_values, parse_natural, split_rows
from tasks.rules.machine_checks.report_limits import (
    MAX_INSTALLED_PACKAGES,
    MAX_TEXT_LENGTH,
    require_count,
    require_length,
)

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.\-]*")
VERSION_PATTERN: Final = re.compile(r"([0-9]{1,9}:)?[A-Za-z0-9_+.~^]+-[A-Za-z0-9_+.~^]+")
ARCH_PATTERN: Final = re.compile(r"[a-z0-9_]+")
"""What rpm's build accepts (rpm-spec(5): Name, Version, Release), so that it may be part of a command line."""
_KEY: Final = "gpg-pubkey"
"""rpm keeps its keys like packages."""


def build_update_id(name: str, arch: str, native: str) -> str:
    """Return a package's id on a machine with this native architecture."""
    return name if arch in {native, "noarch", ""} else f"{name}.{arch}"


def format_rpm_version(epoch: str, version: str, release: str) -> str:
    """Return a version as ids and reports have it. An epoch of "0", "(none)" or "" is left out."""
    prefix = "" if epoch in {"", "0", "(none)"} else f"{epoch}:"
    return f"{prefix}{version}-{release}"


def build_rpm_spec(update: Update) -> str:
    """Return "NAME-[EPOCH:]VERSION-RELEASE.ARCH", as dnf, yum and rpm take it on the command line.

    Raises:
        RequestError: a part is not valid: the package manager would read it as an option or a pattern.
    """
    if not (
        NAME_PATTERN.fullmatch(update.name)
        and VERSION_PATTERN.fullmatch(update.available)
        and ARCH_PATTERN.fullmatch(update.arch)
    ):
        raise RequestError(f"not an RPM package and version: {update.id!r} {update.available!r} {update.arch!r}")
    return f"{update.name}-{update.available}.{update.arch}"


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """An installed package.

    Attributes:
        id: see the module.
        version: "[EPOCH:]VERSION-RELEASE".
        installed_at: seconds since the epoch by the machine's clock; None when the database does not say it.
        vendor: "" when the package names none.
    """

    id: str
    name: str
    arch: str
    version: str
    installed_at: int | None = None
    vendor: str = ""


def parse_rpm_packages(text: str, native: str) -> tuple[InstalledPackage, ...]:
    """Read the lines of fp_rpm_query. Lines that are not valid are ignored.

    Raises:
        ReportTooLarge: there are more packages than any real machine has.
    """
    require_count(text.count("\n"), MAX_INSTALLED_PACKAGES, "installed packages")
    packages: list[InstalledPackage] = []
    for line in text.splitlines():
        name, epoch, version, release, arch, at, vendor = (*line.split("\t"), "", "", "", "", "", "")[:7]
        if name == _KEY or not NAME_PATTERN.fullmatch(name) or not ARCH_PATTERN.fullmatch(arch):
            continue
        require_length(line, MAX_TEXT_LENGTH, "of an installed package")
        full = format_rpm_version(epoch, version, release)
        update_id = build_update_id(name, arch, native)
        packages.append(InstalledPackage(update_id, name, arch, full, parse_natural(at), parse_vendor(vendor)))
    return tuple(packages)


def parse_rpm_versions(text: str, native: str) -> Mapping[str, tuple[str, ...]]:
    """Read the lines of fp_rpm_query: id -> its installed versions, the one installed last at the end."""
    packages = parse_rpm_packages(text, native)
    return group_values((package.id, package.version) for package in packages)


def parse_reboot_suggestions(text: str) -> frozenset[tuple[str, str]]:
    """Read lines "name<tab>epoch<tab>version<tab>release<tab>arch": name and version."""
    return frozenset((name, format_rpm_version(*version)) for name, *version, _ in split_rows(text, 5))


def parse_vendor(text: str) -> str:
    """Return a vendor as reports have it: "" for none."""
    return "" if text == "(none)" else text.strip()[:200]


@dataclass(frozen=True, slots=True)
class VersionedPackage:
    """A package, in the version that would be installed or removed."""

    name: str
    arch: str
    version: str
