"""What zypper would do: the summary of ``zypper --xmlout install|update|dup --dry-run``. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tasks.machines.managers.rpm.packages import ARCH_PATTERN, NAME_PATTERN, VERSION_PATTERN
from tasks.machines.managers.rpm.zypper.xml_answer import XmlElement, ZypperAnswer, get_attribute

_MAX_PROBLEMS: Final = 50
_SIZE_PATTERN: Final = re.compile(r"[0-9]{1,18}")
_LICENSE_PATTERN: Final = re.compile(r"In order to install '([^']{1,200})'")
_CHANGES: Final = ("to-upgrade", "to-install", "to-downgrade", "to-reinstall")


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package, in the version that would be installed or removed."""

    name: str
    arch: str
    version: str


@dataclass(frozen=True, slots=True)
class InstallSummary:
    """What zypper would do, or why it would not.

    Attributes:
        changes: the packages that would be installed.
        removals: names of packages that would be removed.
        vendor_changes: names of packages that would come from another vendor.
        download_bytes: what is not downloaded yet; None when zypper did not say.
        problems: why zypper's solver finds no way, in its own words.
        unaccepted: names of packages whose licence is not accepted yet. zypper asks for one at a time.
        errors: its other errors.
        is_complete: zypper got as far as showing the summary, or said that nothing is to be done.
    """

    changes: tuple[PackageChange, ...]
    removals: tuple[str, ...]
    vendor_changes: frozenset[str]
    download_bytes: int | None
    problems: tuple[str, ...]
    unaccepted: tuple[str, ...]
    errors: tuple[str, ...]
    is_complete: bool

    @property
    def refusals(self) -> tuple[str, ...]:
        """Return why zypper would not do it; empty when it would."""
        licences = tuple(f"the licence of {name} must be accepted on the machine" for name in self.unaccepted)
        problem_texts = (*self.problems, *licences)
        return problem_texts or (() if self.is_complete else self.errors or ("zypper gave no reason",))


def parse_install_summary(answer: ZypperAnswer) -> InstallSummary:
    """Return the summary of a dry run. Entries whose name or version is not valid are left out."""
    summary = next(answer.root.iter("install-summary"), None)
    nothing = any(message.text.startswith("Nothing to do") for message in answer.messages)
    size = get_attribute(summary, "download-size")
    return InstallSummary(
        changes=tuple(change for tag in _CHANGES for change in _find_changes(summary, tag)),
        removals=tuple(dict.fromkeys(change.name for change in _find_changes(summary, "to-remove"))),
        vendor_changes=frozenset(change.name for change in _find_changes(summary, "to-change-vendor")),
        download_bytes=int(size) if _SIZE_PATTERN.fullmatch(size) else 0 if nothing else None,
        problems=_find_problems(answer),
        unaccepted=tuple(
            match[1] for message in answer.messages if (match := _LICENSE_PATTERN.search(message.text)) is not None
        )
        if answer.exit_code
        else (),
        errors=answer.errors,
        is_complete=summary is not None or nothing,
    )


def parse_package(element: XmlElement) -> PackageChange | None:
    """Return the package that an element names; None when its name, version or architecture is not valid."""
    name, version, arch = (get_attribute(element, key) for key in ("name", "edition", "arch"))
    valid = NAME_PATTERN.fullmatch(name) and VERSION_PATTERN.fullmatch(version) and ARCH_PATTERN.fullmatch(arch)
    return PackageChange(name, arch, version) if valid else None


def _find_changes(summary: XmlElement | None, tag: str) -> Iterator[PackageChange]:
    part = summary.find(tag) if summary is not None else None
    for element in part.iter("solvable") if part is not None else ():
        if get_attribute(element, "type") == "package" and (package := parse_package(element)):
            yield package


def _find_problems(answer: ZypperAnswer) -> tuple[str, ...]:
    """Return the solver's problems: with several of them, a message each; the first one also as a question."""
    names: dict[str, None] = {}
    for message in answer.messages:
        first = " ".join(re.split(r"\n[ \t]*Solution \d+:", message.text, maxsplit=1)[0].split())
        if first.startswith("Problem: "):
            names.setdefault(first.removeprefix("Problem: "))
    return tuple(names)[:_MAX_PROBLEMS]
