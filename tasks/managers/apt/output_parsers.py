"""Parsers for apt's output (with LC_ALL=C). Pure. Lines that are not understood are ignored; nothing is raised."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tasks.managers.simulation import SimulationAnswer

_HEADER_PATTERN = re.compile(r"^([^\s:]+(?::[^\s:]+)?):$")
_VERSION_PATTERN = re.compile(r"^ (\*\*\*|   ) (\S+) -?\d+(?: \(phased (\d+)%\))?$")
_SOURCE_PATTERN = re.compile(r"^ {4,}-?\d+ (\S.*)$")
_PACKAGE_FILE_PATTERN = re.compile(r"^ -?\d+ (\S.*)$")
_RELEASE_PATTERN = re.compile(r"^ +release (.*)$")
_INSTALL_PATTERN = re.compile(r"^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+)(?: (.*?))? \[([^\[\]]+)\]\)")
_REMOVAL_PATTERN = re.compile(r"^(?:Remv|Purg) (\S+)")
_ORIGIN_PATTERN = re.compile(r"^([^/]*):([^:/]*)/(.*)$")
_URI_PATTERN = re.compile(r"^'[^']*' (\S+) (\d+)(?: |$)")
_NOT_FOUND_PATTERN = re.compile(r"^E: (?:Version '[^']*' for '([^']+)' was not found|Unable to locate package (\S+))")
_UNMET_PATTERN = re.compile(r"^ (\S+) : (\S.*)$")
_MORE_UNMET_PATTERN = re.compile(r"^ {2,}(\S.*)$")
_DEFERRED_HEADER = "The following upgrades have been deferred due to phasing:"


@dataclass(frozen=True, slots=True)
class Release:
    """The publisher of an index file: the fields of its Release file that name it."""

    origin: str = ""
    label: str = ""
    version: str = ""
    archive: str = ""
    codename: str = ""

    def __str__(self) -> str:
        return f"{self.label or self.origin}:{self.version}/{self.archive or self.codename}"


@dataclass(frozen=True, slots=True)
class AvailableVersion:
    """An available version, and the index files that offer it."""

    version: str
    index_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackagePolicy:
    """The answer of ``apt-cache policy`` for a package.

    Attributes:
        name: as apt writes it: with its architecture only if that is a foreign one.
        candidate: the version that apt would install.
        newer_versions: versions newer than the installed one, newest first.
        older_versions: the installed version and older ones, newest first.
    """

    name: str
    installed: str | None
    candidate: str | None
    newer_versions: tuple[AvailableVersion, ...] = ()
    older_versions: tuple[AvailableVersion, ...] = ()


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
        deferred: packages whose phased update has not reached this machine.
        unknown_packages: packages or versions that apt does not know.
        unmet_dependencies: package -> what is missing.
        errors: the text of all "E:" lines.
    """

    changes: tuple[PackageChange, ...] = ()
    removals: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
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
    table: list[tuple[str, list[str]]] = []
    newer = 0
    for line in lines:
        if version := _VERSION_PATTERN.match(line):
            newer = len(table) if version[1] == "***" else newer
            table.append((version[2], []))
        elif table and (source := _SOURCE_PATTERN.match(line)):
            table[-1][1].append(source[1])
    installed = _parse_version(values.get("Installed"))
    offers = tuple(AvailableVersion(version, tuple(sources)) for version, sources in table) if installed else ()
    return PackagePolicy(name, installed, _parse_version(values.get("Candidate")), offers[:newer], offers[newer:])


def _parse_version(version: str | None) -> str | None:
    return None if version in {None, "", "(none)"} else version


def parse_releases(text: str) -> Mapping[str, Release]:
    """Read ``apt-cache policy``: index file -> publisher. Versions that are only installed have no release."""
    releases: dict[str, Release] = {}
    source = ""
    for line in text.splitlines():
        if package_file := _PACKAGE_FILE_PATTERN.match(line):
            source = package_file[1]
        elif source and (release := _RELEASE_PATTERN.match(line)):
            values = dict(part.split("=", 1) for part in re.split(r",(?=[a-z]=)", release[1]) if "=" in part)
            if values.get("a") != "now":
                releases[source] = Release(*(values.get(key, "") for key in "olvan"))
    return releases


def parse_origin(origin: str) -> Release:
    """Read an origin as a simulation prints it: "Debian-Security:12/stable-security"."""
    found = _ORIGIN_PATTERN.match(origin)
    return Release(label=found[1], version=found[2], archive=found[3]) if found else Release(label=origin)


def parse_simulation(text: str) -> AptSimulation:
    """Read the output of ``apt-get -s``."""
    changes: dict[str, PackageChange] = {}
    removals: dict[str, None] = {}
    missing: dict[str, None] = {}
    errors: list[str] = []
    for line in text.splitlines():
        if inst := _INSTALL_PATTERN.match(line):
            origins = tuple(part.strip() for part in (inst[4] or "").split(", ") if part.strip())
            changes[inst[1]] = PackageChange(inst[1], inst[5], inst[2], inst[3], origins)
        elif removal := _REMOVAL_PATTERN.match(line):
            removals[removal[1]] = None
        elif line.startswith("E: "):
            errors.append(line[3:])
            if unknown := _NOT_FOUND_PATTERN.match(line):
                missing[unknown[1] or unknown[2]] = None
    return AptSimulation(
        tuple(changes.values()),
        tuple(removals),
        _parse_deferred(text),
        tuple(missing),
        _parse_unmet_dependencies(text),
        tuple(errors),
    )


def _parse_deferred(text: str) -> tuple[str, ...]:
    _, found, rest = text.partition(_DEFERRED_HEADER + "\n")
    names: list[str] = []
    for line in rest.splitlines() if found else ():
        if not line.startswith("  "):
            break
        names += line.split()
    return tuple(names)


def _parse_unmet_dependencies(text: str) -> Mapping[str, str]:
    _, found, rest = text.partition("The following packages have unmet dependencies:\n")
    lacks: dict[str, list[str]] = {}
    name = ""
    for line in rest.splitlines() if found else ():
        if first := _UNMET_PATTERN.match(line):
            name = first[1]
            lacks.setdefault(name, []).append(first[2])
        elif name and (more := _MORE_UNMET_PATTERN.match(line)):
            lacks[name].append(more[1])
        else:
            break
    return {name: "; ".join(what) for name, what in lacks.items()}


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
    found = (_URI_PATTERN.match(line) for line in text.splitlines())
    return {uri[1]: int(uri[2][:18]) for uri in found if uri}


def build_simulation_answer(text: str, uris: str | None) -> SimulationAnswer:
    """Return the answer of ``apt-get -s`` for a set of updates.

    Args:
        text: its output.
        uris: the output of ``--print-uris`` for the same set; None when it was not requested.
    """
    simulation = parse_simulation(text)
    return SimulationAnswer(
        changes={change.name: change.new_version for change in simulation.changes},
        removals=simulation.removals,
        unknown_updates=simulation.unknown_packages,
        unmet_dependencies=simulation.unmet_dependencies,
        errors=simulation.errors,
        downloads=None if uris is None else parse_download_sizes(uris),
    )
