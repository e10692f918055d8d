"""Reads zypper's XML answers (``zypper --xmlout``), and what a dry run of install, update or dup would do. Pure.

An answer is one element ``<stream>``. Lines before and after it are not zypper's own (a plugin's, for example).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from defusedxml.ElementTree import ParseError, fromstring

from inventory.data_class import dataclass
from tasks.domain.errors import ManagerBusy, ManagerError, PrivilegeError, ProtocolViolation, RepositoryError
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.manager_base import build_simulation_result
from tasks.machines.managers.rpm.packages import (
    ARCH_PATTERN,
    NAME_PATTERN,
    VERSION_PATTERN,
    VersionedPackage,
    build_rpm_spec,
    build_update_id,
)
from tasks.machines.managers.script_output import ScriptSection, parse_natural, parse_sections, require_native

MAX_ANSWER_CHARACTERS: Final = 32_000_000
"""Thousands of patches take a few million."""
_MAX_MESSAGES: Final = 200
_MAX_MESSAGE_CHARACTERS: Final = 2_000
_CONTROL_PATTERN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

_NO_PRIVILEGES, _NO_REPOSITORIES, _LOCKED = 5, 6, 7  # zypper(8): ZYPPER_EXIT_ERR_PRIVILEGES, _NO_REPOS, INF_LOCKED


class XmlElement(Protocol):
    """The part of an ElementTree element that is used here."""

    tag: str
    text: str | None

    def get(self, key: str) -> str | None:
        """Return an attribute, or None."""

    def iter(self, tag: str | None = None) -> Iterator["XmlElement"]:
        """Return the elements below with that tag, in document order."""

    def find(self, path: str) -> "XmlElement | None":
        """Return the first child with that tag."""

    def __iter__(self) -> Iterator["XmlElement"]: ...


@dataclass(frozen=True, slots=True)
class ZypperMessage:
    """A message: its type ("info", "warning", "error", or "prompt" for the description of a question) and text."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class ZypperAnswer:
    """One answer: its elements, and its messages in their order."""

    root: XmlElement
    messages: tuple[ZypperMessage, ...]
    exit_code: int

    @property
    def text(self) -> str:
        """Return what zypper said, without its elements."""
        return "\n".join(message.text for message in self.messages)

    @property
    def errors(self) -> tuple[str, ...]:
        """Return the texts of the errors, each on one line."""
        return tuple(" ".join(message.text.split()) for message in self.messages if message.type == "error")


def parse_answer(section: ScriptSection, subject: str) -> ZypperAnswer:
    """Return the answer of one call of zypper.

    ``subject`` is what zypper was asked for, for error messages.

    Raises:
        ManagerBusy: another process has zypper's lock.
        RepositoryError: no repository is configured.
        PrivilegeError: zypper was not started as root.
        ProtocolViolation: the answer is no complete XML, has a document type, or is too long.
    """
    root = _parse_stream(section.text, subject)
    messages = tuple(_find_messages(root))
    answer = ZypperAnswer(root, messages, section.exit_code)
    errors_text = "; ".join(answer.errors[:3])
    if section.exit_code == _LOCKED:
        raise ManagerBusy(errors_text or "another process has zypper's lock")
    if section.exit_code == _NO_REPOSITORIES or any("No repositories defined" in message.text for message in messages):
        raise build_no_repository_error()
    if section.exit_code == _NO_PRIVILEGES:
        raise PrivilegeError(errors_text or "zypper needs administrator rights")
    return answer


def build_no_repository_error() -> RepositoryError:
    """Return the error for a machine without repositories: such a machine must not count as up to date."""
    return RepositoryError(
        "no package repository is configured and enabled, so nothing can be pending",
        hint="Register the machine (SUSEConnect --status) or add repositories (zypper repos).",
    )


def get_attribute(element: XmlElement | None, name: str) -> str:
    """Return an attribute; "" without it, or without the element."""
    return (element.get(name) or "") if element is not None else ""


def get_child_text(element: XmlElement, tag: str) -> str:
    """Return the text of the first child with that tag; "" without it."""
    child = element.find(tag)
    return (child.text or "").strip() if child is not None else ""


def require_element(answer: ZypperAnswer, tag: str, subject: str) -> XmlElement:
    """Return the first element with that tag. Raise ManagerError if zypper did not give it."""
    element = next(answer.root.iter(tag), None)
    if element is None:
        errors_text = "; ".join(answer.errors[:3]) or f"it ended with {answer.exit_code}"
        raise ManagerError(f"zypper could not tell {subject}: {errors_text}")
    return element


def _parse_stream(text: str, subject: str) -> XmlElement:
    begin, end = text.find("<stream>"), text.rfind("</stream>")
    if begin < 0 or end < begin:
        raise ProtocolViolation(f"zypper's answer about {subject} is not complete")
    if end - begin > MAX_ANSWER_CHARACTERS:
        raise ProtocolViolation(f"zypper's answer about {subject} is longer than {MAX_ANSWER_CHARACTERS} characters")
    stream = _CONTROL_PATTERN.sub("?", text[begin : end + len("</stream>")])
    try:  # bytes, so that half of a surrogate pair is no error either
        root: XmlElement = fromstring(stream.encode("utf-8", "replace"), forbid_dtd=True)
    except (ParseError, ValueError) as error:
        raise ProtocolViolation(f"zypper's answer about {subject} is not valid XML: {error}") from None
    return root


def _find_messages(root: XmlElement) -> Iterator[ZypperMessage]:
    count = 0
    for element in root.iter():
        if element.tag not in {"message", "prompt"} or count >= _MAX_MESSAGES:
            continue
        described = element if element.tag == "message" else element.find("description")
        text = (described.text or "").strip()[:_MAX_MESSAGE_CHARACTERS] if described is not None else ""
        if text:
            count += 1
            yield ZypperMessage(get_attribute(element, "type") if element.tag == "message" else "prompt", text)


_MAX_PROBLEMS: Final = 50
_LICENSE_PATTERN: Final = re.compile(r"In order to install '([^']{1,200})'")
_CHANGES: Final = ("to-upgrade", "to-install", "to-downgrade", "to-reinstall")


@dataclass(frozen=True, slots=True)
class InstallSummary:
    """What zypper would do, or why it would not."""

    changes: tuple[VersionedPackage, ...]  # the packages that would be installed
    removals: tuple[str, ...]  # names of packages that would be removed
    vendor_changes: frozenset[str]  # names of packages that would come from another vendor
    download_bytes: int | None  # what is not downloaded yet; None when zypper did not say
    problems: tuple[str, ...]  # why zypper's solver finds no way, in its own words
    unaccepted: tuple[str, ...]  # names of packages whose licence is not accepted yet. zypper asks for one at a time.
    errors: tuple[str, ...]  # its other errors
    is_complete: bool  # zypper got as far as showing the summary, or said that nothing is to be done

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
    size = parse_natural(get_attribute(summary, "download-size"))
    return InstallSummary(
        changes=tuple(change for tag in _CHANGES for change in _find_changes(summary, tag)),
        removals=tuple(dict.fromkeys(change.name for change in _find_changes(summary, "to-remove"))),
        vendor_changes=frozenset(change.name for change in _find_changes(summary, "to-change-vendor")),
        download_bytes=0 if size is None and nothing else size,
        problems=_find_problems(answer),
        unaccepted=tuple(
            match[1] for message in answer.messages if (match := _LICENSE_PATTERN.search(message.text)) is not None
        )
        if answer.exit_code
        else (),
        errors=answer.errors,
        is_complete=summary is not None or nothing,
    )


def parse_package(element: XmlElement) -> VersionedPackage | None:
    """Return the package that an element names; None when its name, version or architecture is not valid."""
    name, version, arch = (get_attribute(element, key) for key in ("name", "edition", "arch"))
    valid = NAME_PATTERN.fullmatch(name) and VERSION_PATTERN.fullmatch(version) and ARCH_PATTERN.fullmatch(arch)
    return VersionedPackage(name, arch, version) if valid else None


def _find_changes(summary: XmlElement | None, tag: str) -> Iterator[VersionedPackage]:
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


_UNKNOWN_PATTERN: Final = re.compile(r"No provider of '([^']{1,400})' found|[Pp]ackage '([^']{1,400})' not found")


def parse_zypper_simulation(result: ScriptResult, wanted: Sequence[Update]) -> SimulationResult:
    """Return what zypper would do if it installed these updates.

    Raises:
        ScriptFailed: the script failed.
        ManagerBusy: another process has zypper's lock.
        ProtocolViolation: zypper's answer is not complete.
    """
    sections = parse_sections(result, "rpm_simulate", "simulation")
    native = require_native(result, "rpm_simulate")
    answer = parse_answer(sections["simulation"], "the installation")
    summary = parse_install_summary(answer)
    refusals = summary.refusals
    specs = {build_rpm_spec(update): update.id for update in wanted}
    unknown = [name for text in answer.errors for match in _UNKNOWN_PATTERN.findall(text) for name in match]
    return build_simulation_result(
        wanted,
        changes={build_update_id(change.name, change.arch, native): change.version for change in summary.changes},
        removals=summary.removals,
        unknown=tuple(dict.fromkeys(specs[name] for name in unknown if name in specs)),
        errors=refusals,
        named=[update_id for spec, update_id in specs.items() if _is_named(spec, update_id, refusals)],
        downloads=_find_downloads(summary, sections.get("cached")),
    )


def _is_named(spec: str, update_id: str, refusals: Sequence[str]) -> bool:
    """Return whether a refusal names the package and version, or the licence."""
    pattern = re.compile(rf"(?<![\w.+-]){re.escape(spec)}(?![\w+-])|^the licence of {re.escape(update_id)} must ")
    return any(map(pattern.search, refusals))


def _find_downloads(summary: InstallSummary, cached: ScriptSection | None) -> Mapping[str, int] | None:
    """Return file -> bytes. zypper only tells the sum: the first file has it, the others have 0."""
    if cached is None or summary.download_bytes is None:
        return None
    have = set(cached.text.splitlines())
    names = [f"{change.name}-{change.version.rpartition(':')[2]}.{change.arch}.rpm" for change in summary.changes]
    missing = [name for name in names if name not in have] if summary.download_bytes else []
    return {name: summary.download_bytes if name == missing[0] else 0 for name in missing}
