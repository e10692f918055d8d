"""Patches (SUSE's advisories), and the packages that they fix. Pure.

A patch has no packages of its own. It conflicts with the versions that have the fault ("openssl < 1.1.1-150.1"), so it
is needed as long as such a version is installed.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import ProtocolViolation
from tasks.machines.managers.rpm.advisories import Advisory
from tasks.machines.managers.rpm.packages import NAME_PATTERN, VERSION_PATTERN
from tasks.machines.managers.rpm.zypper.xml_answer import XmlElement, ZypperAnswer, get_attribute, require_element
from tasks.machines.managers.script_output import group_values
from tasks.rules.machine_checks.report_limits import MAX_UPDATES, require_count

_PATCH_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.:\-]{0,199}")


_EDITION_PATTERN: Final = re.compile(r"[A-Za-z0-9_+.~^:\-]{1,60}")


_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,12}")


_CONFLICT_PATTERN: Final = re.compile(r"(\S+) < (\S+)")


_FIELD_PATTERN: Final = re.compile(r"([A-Z][A-Za-z ]{0,30}?) *:(?: +(.*))?")


_KNOWN_ARCHITECTURES: Final = frozenset(
    ("noarch", "x86_64", "i386", "i486", "i586", "i686", "aarch64", "ppc64le", "s390x", "armv7hl", "riscv64", "src")
)


_MAX_WORD: Final = 30


_MAX_TIME: Final = 253_402_300_799  # the end of the year 9999: datetime has no later one


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that applies to the machine."""

    advisory: Advisory  # without packages; ``parse_faulty_packages`` finds those
    edition: str
    status: str  # zypper's word: "needed", "optional", or "unwanted": locked
    reboot: bool  # it takes effect after a reboot
    updates_manager: bool  # it fixes zypper itself or what zypper is made of

    @property
    def name(self) -> str:
        """Return its name, which is also the advisory's id."""
        return self.advisory.id

    @property
    def is_needed(self) -> bool:
        """Whether the machine lacks it, and zypper would install it without being asked for it by name.

        Old versions of zypper list only such patches and don't say so.
        """
        return self.status in {"needed", ""}

    @property
    def is_locked(self) -> bool:
        """Whether an administrator has locked it."""
        return self.status == "unwanted"


@dataclass(frozen=True, slots=True)
class FaultyPackage:
    """A package that a patch fixes: every version before ``fixed_version`` has the fault. ``arch`` is "" for any."""

    name: str
    arch: str
    fixed_version: str


@dataclass(frozen=True, slots=True)
class ZypperDescription:
    """What ``zypper info`` says about a patch or a package: its fields, and its dependencies by kind."""

    fields: Mapping[str, str]
    dependencies: Mapping[str, tuple[str, ...]]


def parse_patches(answer: ZypperAnswer) -> tuple[Patch, ...]:
    """Return the patches of ``zypper list-patches``, also those that zypper wants to install after its own update.

    Raises:
        ManagerError: zypper could not list them.
        ReportTooLarge: there are more of them than any real machine lacks.
    """
    require_element(answer, "update-status", "which patches apply")
    patches_by_name = {patch.name: patch for element in answer.root.iter("update") if (patch := _parse_patch(element))}
    require_count(len(patches_by_name), MAX_UPDATES, "patches")
    return tuple(patches_by_name.values())


def _parse_patch(element: XmlElement) -> Patch | None:
    name, edition = get_attribute(element, "name"), get_attribute(element, "edition")
    if get_attribute(element, "kind") != "patch" or not _PATCH_NAME_PATTERN.fullmatch(name):
        return None
    issues = [issue for issue in element.iter("issue") if get_attribute(issue, "type").lower() == "cve"]
    cves = (get_attribute(issue, "id") for issue in issues)
    return Patch(
        advisory=Advisory(
            id=name,
            kind=get_attribute(element, "category").lower()[:_MAX_WORD],
            severity=get_attribute(element, "severity").lower()[:_MAX_WORD],
            cves=tuple(dict.fromkeys(cve for cve in cves if _CVE_PATTERN.fullmatch(cve))),
            published=_parse_time(element.find("issue-date")),
        ),
        edition=edition if _EDITION_PATTERN.fullmatch(edition) else "1",
        status=get_attribute(element, "status").lower(),
        reboot=get_attribute(element, "restart") == "true",  # "restart" is zypper's word for a reboot
        updates_manager=get_attribute(element, "pkgmanager") == "true",
    )


def _parse_time(element: XmlElement | None) -> datetime | None:
    seconds = get_attribute(element, "time_t")
    if not re.fullmatch(r"[1-9][0-9]{0,11}", seconds) or int(seconds) > _MAX_TIME:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)


def parse_descriptions(text: str) -> tuple[ZypperDescription, ...]:
    """Read the output of ``zypper info`` for several patches or packages.

    Each begins with the field Repository. A list of dependencies is on the line of its kind ("Requires : libc.so.6"),
    or on the lines below it: indented after their number in brackets, and without both in zypper 1.13.
    """
    descriptions: list[tuple[dict[str, str], dict[str, list[str]]]] = []
    kind = ""
    for line in text.splitlines():
        field = _FIELD_PATTERN.fullmatch(line)
        if field and field[1] == "Repository":
            descriptions.append(({}, {}))
        if not descriptions:
            continue
        fields, dependencies = descriptions[-1]
        if field and not line.startswith(" "):
            kind, value = field[1], (field[2] or "").strip()
            fields.setdefault(kind, value)  # a description below it could look like a field
            if value not in {"", "---"} and not re.fullmatch(r"\[[0-9]+\]", value):
                dependencies[kind] = [value]
        elif not line.strip() or line.startswith("Information for "):
            kind = ""
        elif kind:
            dependencies.setdefault(kind, []).append(line.strip())
    return tuple(
        ZypperDescription(fields, {kind: tuple(values) for kind, values in lists.items()})
        for fields, lists in descriptions
    )


def index_patches(patches: tuple[Patch, ...], text: str) -> Mapping[str, tuple[tuple[Patch, FaultyPackage], ...]]:
    """Read the output of ``zypper info -t patch --conflicts``: name of a package -> the patches that fix it.

    Raises:
        ProtocolViolation: zypper told of none of these patches which packages it fixes.
    """
    patches_by_name = {patch.name: patch for patch in patches}
    faulty_by_package = group_values(
        (package.name, (patch, package))
        for description in parse_descriptions(text)
        if (patch := patches_by_name.get(description.fields.get("Name", "")))
        for package in _find_faulty_packages(description.dependencies.get("Conflicts", ()))
    )
    if patches and not faulty_by_package:
        raise ProtocolViolation("zypper did not tell which packages its patches fix")
    return faulty_by_package


def _find_faulty_packages(conflicts: tuple[str, ...]) -> Iterator[FaultyPackage]:
    for line in conflicts:
        conflict = _CONFLICT_PATTERN.fullmatch(line)
        if not conflict or not VERSION_PATTERN.fullmatch(conflict[2]):
            continue
        name, _, arch = conflict[1].rpartition(".")
        if arch not in _KNOWN_ARCHITECTURES:
            name, arch = conflict[1], ""
        if NAME_PATTERN.fullmatch(name) and arch != "src":
            yield FaultyPackage(name, arch, conflict[2])
