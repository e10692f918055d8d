"""Parsers for apt's output (with LC_ALL=C). Pure. Lines that are not understood are ignored; nothing is raised."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from inventory.data_class import dataclass
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.machines.managers.manager_base import build_simulation_result
from tasks.machines.managers.tool_errors import describe_failure

_HEADER_PATTERN = re.compile(r"^([^\s:]+(?::[^\s:]+)?):$")
_VERSION_PATTERN = re.compile(r"^ (\*\*\*|   ) (\S+) (-?\d{1,9})(?: \(phased (\d{1,3})%\))?$")
_SOURCE_PATTERN = re.compile(r"^ {4,}-?\d+ (\S.*)$")
_PACKAGE_FILE_PATTERN = re.compile(r"^ (-?\d{1,9}) (\S.*)$")
_RELEASE_PATTERN = re.compile(r"^ +release (.*)$")
_INSTALL_PATTERN = re.compile(
    r"^Inst ([A-Za-z0-9][A-Za-z0-9+._\-]*(?::[a-z0-9\-]+)?) (?:\[([^\]]*)\] )?\((\S+)(?: (.*?))? \[([^\[\]]+)\]\)"
)
_REMOVAL_PATTERN = re.compile(r"^(?:Remv|Purg) (\S+)")
_ORIGIN_PATTERN = re.compile(r"^([^/]*):([^:/]*)/(.*)$")
_URI_PATTERN = re.compile(r"^'[^']*' (\S+) (\d+)(?: |$)")
_ERROR_PATTERN = re.compile(r"^(?:E|Error): (.*)$")
_NOT_FOUND_PATTERN = re.compile(
    r"^(?:E|Error): (?:Version '[^']*' for '([^']+)' was not found|Unable to locate package (\S+))"
)
_UNMET_PATTERN = re.compile(r"^ (\S+) : (\S.*)$")
_MORE_UNMET_PATTERN = re.compile(r"^ {2,}(\S.*)$")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._\-]+(?::[a-z0-9\-]+)?")
_HELD_PATTERN = re.compile(r"^The following held packages will be changed:\n((?: .*\n?)+)", re.MULTILINE)
# what apt 3's solver could not choose together
_CHOICE_PATTERN = re.compile(r" \d+\. ([A-Za-z0-9][A-Za-z0-9+._\-]*)(?::[a-z0-9\-]+)?=\S+ is selected for install")
_MAX_ERROR_CHARACTERS = 1000
_UNMET_HEADERS = ("The following packages have unmet dependencies:", "Unsatisfied dependencies:")
"""The words of apt before and since 3.0; the latter are used where the option APT::Output-Version asks for them."""


@dataclass(frozen=True, slots=True)
class Release:
    """The publisher of an index file: the fields of its Release file that name it, and its priority for the machine."""

    origin: str = ""
    label: str = ""
    version: str = ""
    archive: str = ""
    codename: str = ""
    priority: int = 500

    def __str__(self) -> str:
        return f"{self.label or self.origin}:{self.version}/{self.archive or self.codename}"


@dataclass(frozen=True, slots=True)
class AvailableVersion:
    """An available version, and the index files that offer it.

    Attributes:
        priority: its priority by apt's preferences. apt takes the newest of the versions with the highest one.
        phased: to how many of 100 machines Ubuntu offers it; None when it is not rolled out step by step. 0 when the
            roll-out was stopped.
    """

    version: str
    index_files: tuple[str, ...] = ()
    priority: int = 500
    phased: int | None = None

    @property
    def is_phased(self) -> bool:
        """Whether not all machines are to have it yet."""
        return self.phased is not None and self.phased < 100


@dataclass(frozen=True, slots=True)
class PackagePolicy:
    """The answer of ``apt-cache policy`` for a package.

    Attributes:
        name: as apt writes it: with its architecture only if that is a foreign one.
        candidate: the version that apt would install.
        newer_versions: versions newer than the installed one, newest first.
        older_versions: the installed version and older ones, newest first.
        has_other_content: whether a repository has other content under the installed version. apt would install it, at
            each upgrade if the repository describes it wrongly. It is no update: the version stays the same.
    """

    name: str
    installed: str | None
    candidate: str | None
    newer_versions: tuple[AvailableVersion, ...] = ()
    older_versions: tuple[AvailableVersion, ...] = ()
    has_other_content: bool = False


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that a simulation installs or upgrades; ``old_version`` is None for a new one."""

    name: str
    arch: str
    old_version: str | None
    new_version: str
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AptSimulation:
    """What ``apt-get -s`` would do.

    Attributes:
        unknown_packages: packages or versions that apt does not know.
        unmet_dependencies: package -> what is missing.
        errors: the text of all "E:" lines.
    """

    changes: tuple[PackageChange, ...] = ()
    removals: tuple[str, ...] = ()
    unknown_packages: tuple[str, ...] = ()
    unmet_dependencies: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def parse_policy(text: str) -> tuple[PackagePolicy, ...]:
    """Read the blocks of ``apt-cache policy PACKAGE…``."""
    return tuple(_parse_package_policy(name, lines) for name, lines in _split_blocks(text))


def _split_blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in text.splitlines():
        if header := _HEADER_PATTERN.match(line):
            if name:
                yield name, lines
            name, lines = header[1], []
        else:
            lines.append(line)
    if name:
        yield name, lines


def _parse_package_policy(name: str, lines: list[str]) -> PackagePolicy:
    values = {key.strip(): value.strip() for key, _, value in (line.partition(": ") for line in lines[:2])}
    table: list[tuple[re.Match[str], list[str]]] = []
    newer = 0
    for line in lines:
        if version := _VERSION_PATTERN.match(line):
            newer = len(table) if version[1] == "***" else newer
            table.append((version, []))
        elif table and (source := _SOURCE_PATTERN.match(line)):
            table[-1][1].append(source[1])
    installed = _parse_version(values.get("Installed"))
    offers = tuple(
        AvailableVersion(line[2], tuple(sources), int(line[3]), int(line[4]) if line[4] else None)
        for line, sources in table
        if installed
    )
    same = tuple(offer for offer in offers[:newer] if offer.version == installed)
    newer_offers = tuple(offer for offer in offers[:newer] if offer.version != installed)
    candidate = _parse_version(values.get("Candidate"))
    return PackagePolicy(name, installed, candidate, newer_offers, (*same, *offers[newer:]), bool(same))


def _parse_version(version: str | None) -> str | None:
    return None if version in {None, "", "(none)"} else version


def parse_releases(text: str) -> Mapping[str, Release]:
    """Read ``apt-cache policy``: index file -> publisher. Versions that are only installed have no release."""
    releases: dict[str, Release] = {}
    source, priority = "", 0
    for line in text.splitlines():
        if package_file := _PACKAGE_FILE_PATTERN.match(line):
            priority, source = int(package_file[1]), package_file[2]
        elif source and (release := _RELEASE_PATTERN.match(line)):
            values = dict(part.split("=", 1) for part in re.split(r",(?=[a-z]=)", release[1]) if "=" in part)
            if values.get("a") != "now":
                origin, label, version, archive, codename = (values.get(key, "") for key in "olvan")
                releases[source] = Release(origin, label, version, archive, codename, priority)
    return releases


def parse_origin(origin: str) -> Release:
    """Read an origin as a simulation prints it: "Debian-Security:12/stable-security"."""
    match = _ORIGIN_PATTERN.match(origin)
    return Release(label=match[1], version=match[2], archive=match[3]) if match else Release(label=origin)


def parse_apt_simulation(text: str, exit_code: int = 0) -> AptSimulation:
    """Read the output of ``apt-get -s``, of apt 1 to 3. One that failed without a known error has its last line."""
    changes: dict[str, PackageChange] = {}
    removals: dict[str, None] = {}
    missing: dict[str, None] = {}
    for line in text.splitlines():
        if inst := _INSTALL_PATTERN.match(line):
            origins = tuple(part.strip() for part in (inst[4] or "").split(", ") if part.strip())
            changes[inst[1]] = PackageChange(inst[1], inst[5], inst[2], inst[3], origins)
        elif removal := _REMOVAL_PATTERN.match(line):
            removals[removal[1]] = None
        elif unknown := _NOT_FOUND_PATTERN.match(line):
            missing[unknown[1] or unknown[2]] = None
    errors = _parse_errors(text)
    if exit_code and not errors:
        errors = (describe_failure(f"apt-get ended with {exit_code}", text),)
    return AptSimulation(
        tuple(changes.values()),
        tuple(removals),
        tuple(missing),
        _parse_unmet_dependencies(text) or {name: error for error in errors for name in _CHOICE_PATTERN.findall(error)},
        errors,
    )


def _parse_errors(text: str) -> tuple[str, ...]:
    """Return the errors. apt 3 continues an error on further lines, which are indented."""
    errors: list[str] = []
    is_open = False
    for line in text.splitlines():
        if error := _ERROR_PATTERN.match(line):
            errors.append(error[1])
            is_open = True
        elif is_open and line.startswith("  "):
            errors[-1] = f"{errors[-1]} {line.strip()}" if len(errors[-1]) < _MAX_ERROR_CHARACTERS else errors[-1]
        else:
            is_open = False
    return tuple(errors)


def _parse_unmet_dependencies(text: str) -> Mapping[str, str]:
    lines = text.splitlines()
    begin = next((number for number, line in enumerate(lines, start=1) if line in _UNMET_HEADERS), len(lines))
    lacks: dict[str, list[str]] = {}
    name = ""
    for line in lines[begin:]:
        if first := _UNMET_PATTERN.match(line):
            name = first[1]
            lacks.setdefault(name, []).append(first[2])
        elif name and (more := _MORE_UNMET_PATTERN.match(line)):
            lacks[name].append(more[1])
        else:
            break
    return {name: "; ".join(dependencies) for name, dependencies in lacks.items()}


def parse_stanzas(text: str) -> tuple[Mapping[str, str], ...]:
    """Read the stanzas of ``apt-cache show``. Only the first line of a field is kept."""
    stanzas: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        key, colon, value = line.partition(": ")
        if not line.strip():
            stanzas.append({})
        elif colon and not key.startswith((" ", "\t")):
            stanzas[-1][key] = value.strip()
    return tuple(stanza for stanza in stanzas if stanza)


def parse_download_sizes(text: str) -> Mapping[str, int]:
    """Read ``apt-get --print-uris``: file name -> bytes, for files that are not in the cache."""
    matches = (_URI_PATTERN.match(line) for line in text.splitlines())
    return {uri[1]: int(uri[2][:18]) for uri in matches if uri}


def build_apt_simulation_result(
    text: str, uris: str | None, wanted: Sequence[Update], exit_code: int = 0
) -> SimulationResult:
    """Return the answer of ``apt-get -s`` for a set of updates.

    ``uris`` is the output of ``--print-uris`` for the same set; None when it was not requested.
    """
    simulation = parse_apt_simulation(text, exit_code)
    unmet = [f"{name}: {dependencies}" for name, dependencies in simulation.unmet_dependencies.items()]
    mentioned = {form for text in unmet for name in _NAME_PATTERN.findall(text) for form in (name, name.split(":")[0])}
    held = {name for names in _HELD_PATTERN.findall(text) for name in names.split()}
    return build_simulation_result(
        wanted,
        changes={change.name: change.new_version for change in simulation.changes},
        removals=simulation.removals,
        unknown=simulation.unknown_packages,
        errors=simulation.errors and (tuple(unmet) or simulation.errors),
        named=held | simulation.unmet_dependencies.keys() | (mentioned & {update.id for update in wanted}),
        downloads=None if uris is None else parse_download_sizes(uris),
    )
