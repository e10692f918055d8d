"""Names and versions of RPM packages, as the rpm families write them. Pure.

An update's id is the package's name, with ".ARCH" only if that is a foreign architecture ("glibc.i686" on x86_64). A
version is "EPOCH:VERSION-RELEASE", without an epoch of 0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tasks.domain.errors import RequestError
from tasks.domain.model import Update
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

DEFAULT_REPOSITORY_PRIORITY: Final = 99
"""The priority of a repository that has none of its own (dnf.conf(5), zypper(8)). Lower numbers come first."""


def build_update_id(name: str, arch: str, native: str) -> str:
    """Return a package's id on a machine with this native architecture."""
    return name if arch in {native, "noarch", ""} else f"{name}.{arch}"


def format_version(epoch: str, version: str, release: str) -> str:
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
    installed_packages: list[InstalledPackage] = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) < 5 or not NAME_PATTERN.fullmatch(fields[0]) or not ARCH_PATTERN.fullmatch(fields[4]):
            continue
        name, arch = fields[0], fields[4]
        require_length(line, MAX_TEXT_LENGTH, "of an installed package")
        at, vendor = (*fields[5:7], "", "")[:2]
        installed_packages.append(
            InstalledPackage(
                id=build_update_id(name, arch, native),
                name=name,
                arch=arch,
                version=format_version(*fields[1:4]),
                installed_at=parse_natural(at),
                vendor=parse_vendor(vendor),
            )
        )
    return tuple(installed_packages)


def parse_installed_packages(text: str, native: str) -> Mapping[str, tuple[str, ...]]:
    """Read the lines of fp_rpm_query: id -> its installed versions, the one installed last at the end."""
    versions_by_package: dict[str, list[str]] = {}
    for package in parse_rpm_packages(text, native):
        versions_by_package.setdefault(package.id, []).append(package.version)
    return {name: tuple(versions) for name, versions in versions_by_package.items()}


def parse_natural(text: str) -> int | None:
    """Return a natural number of at most 18 digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def parse_vendor(text: str) -> str:
    """Return a vendor as reports have it: "" for none."""
    return "" if text == "(none)" else text.strip()[:200]


@dataclass(frozen=True, slots=True)
class VersionedPackage:
    """A package, in the version that would be installed or removed."""

    name: str
    arch: str
    version: str
