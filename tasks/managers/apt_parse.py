"""What apt prints (with LC_ALL=C), as data. Pure; lines that make no sense are passed over, nothing is raised."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_HEADER = re.compile(r"^([^\s:]+(?::[^\s:]+)?):$")
_VERSION = re.compile(r"^ (\*\*\*|   ) (\S+) -?\d+(?: \(phased (\d+)%\))?$")
_SOURCE = re.compile(r"^ {4,}-?\d+ (\S.*)$")
_PACKAGE_FILE = re.compile(r"^ -?\d+ (\S.*)$")
_RELEASE = re.compile(r"^ +release (.*)$")
_INST = re.compile(r"^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+)(?: (.*?))? \[([^\[\]]+)\]\)")
_REMOVAL = re.compile(r"^(?:Remv|Purg) (\S+)")
_ORIGIN = re.compile(r"^([^/]*):([^:/]*)/(.*)$")
_URI = re.compile(r"^'[^']*' (\S+) (\d+)(?: |$)")
_NOT_FOUND = re.compile(r"^E: (?:Version '[^']*' for '([^']+)' was not found|Unable to locate package (\S+))")
_UNMET = re.compile(r"^ (\S+) : (\S.*)$")
_MORE_UNMET = re.compile(r"^ {2,}(\S.*)$")
_DEFERRED = "The following upgrades have been deferred due to phasing:"


@dataclass(frozen=True, slots=True)
class Release:
    """Who published an index file: the fields of its Release file that say so."""

    origin: str = ""
    label: str = ""
    version: str = ""
    archive: str = ""
    codename: str = ""

    def __str__(self) -> str:
        return f"{self.label or self.origin}:{self.version}/{self.archive or self.codename}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that is to be had, and the index files that offer it."""

    version: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What ``apt-cache policy`` says of a package.

    Attributes:
        name: as apt writes it: with its architecture only where that is a foreign one.
        candidate: the version that apt would install.
        newer: what is newer than the installed version, newest first.
        older: the installed version and what is older, newest first.
    """

    name: str
    installed: str | None
    candidate: str | None
    newer: tuple[Offer, ...] = ()
    older: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A package that a simulation installs or upgrades; ``old`` is None for a new one."""

    name: str
    arch: str
    old: str | None
    new: str
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What ``apt-get -s`` would do.

    Attributes:
        deferred: packages whose update is rolled out in phases and has not reached this machine.
        missing: packages or versions that apt does not know.
        unmet: package -> what it lacks.
        errors: the text of all "E:" lines.
    """

    changes: tuple[Change, ...] = ()
    removals: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unmet: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def parse_policy(text: str) -> tuple[Policy, ...]:
    """Read the blocks of ``apt-cache policy PACKAGE…``."""
    return tuple(_policy(name, lines) for name, lines in _blocks(text))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in text.splitlines():
        if header := _HEADER.match(line):
            if name:
                yield name, lines
            name, lines = header[1], []
        else:
            lines.append(line)
    if name:
        yield name, lines


def _policy(name: str, lines: list[str]) -> Policy:
    values = {key.strip(): value.strip() for key, _, value in (line.partition(": ") for line in lines[:2])}
    table: list[tuple[str, list[str]]] = []
    newer = 0
    for line in lines:
        if version := _VERSION.match(line):
            newer = len(table) if version[1] == "***" else newer
            table.append((version[2], []))
        elif table and (source := _SOURCE.match(line)):
            table[-1][1].append(source[1])
    installed = _known(values.get("Installed"))
    offers = tuple(Offer(version, tuple(sources)) for version, sources in table) if installed else ()
    return Policy(name, installed, _known(values.get("Candidate")), offers[:newer], offers[newer:])


def _known(version: str | None) -> str | None:
    return None if version in {None, "", "(none)"} else version


def parse_releases(text: str) -> Mapping[str, Release]:
    """Read ``apt-cache policy``: index file -> who published it. What is only installed has no release."""
    releases: dict[str, Release] = {}
    source = ""
    for line in text.splitlines():
        if package_file := _PACKAGE_FILE.match(line):
            source = package_file[1]
        elif source and (release := _RELEASE.match(line)):
            values = dict(part.split("=", 1) for part in re.split(r",(?=[a-z]=)", release[1]) if "=" in part)
            if values.get("a") != "now":
                releases[source] = Release(*(values.get(key, "") for key in "olvan"))
    return releases


def release_of(origin: str) -> Release:
    """Read an origin as a simulation prints it: "Debian-Security:12/stable-security"."""
    found = _ORIGIN.match(origin)
    return Release(label=found[1], version=found[2], archive=found[3]) if found else Release(label=origin)


def parse_simulation(text: str) -> Simulation:
    """Read the output of ``apt-get -s``."""
    changes: dict[str, Change] = {}
    removals: dict[str, None] = {}
    missing: dict[str, None] = {}
    errors: list[str] = []
    for line in text.splitlines():
        if inst := _INST.match(line):
            origins = tuple(part.strip() for part in (inst[4] or "").split(", ") if part.strip())
            changes[inst[1]] = Change(inst[1], inst[5], inst[2], inst[3], origins)
        elif removal := _REMOVAL.match(line):
            removals[removal[1]] = None
        elif line.startswith("E: "):
            errors.append(line[3:])
            if unknown := _NOT_FOUND.match(line):
                missing[unknown[1] or unknown[2]] = None
    return Simulation(
        tuple(changes.values()), tuple(removals), _deferred(text), tuple(missing), _unmet(text), tuple(errors)
    )


def _deferred(text: str) -> tuple[str, ...]:
    _, found, rest = text.partition(_DEFERRED + "\n")
    names: list[str] = []
    for line in rest.splitlines() if found else ():
        if not line.startswith("  "):
            break
        names += line.split()
    return tuple(names)


def _unmet(text: str) -> Mapping[str, str]:
    _, found, rest = text.partition("The following packages have unmet dependencies:\n")
    lacks: dict[str, list[str]] = {}
    name = ""
    for line in rest.splitlines() if found else ():
        if first := _UNMET.match(line):
            name = first[1]
            lacks.setdefault(name, []).append(first[2])
        elif name and (more := _MORE_UNMET.match(line)):
            lacks[name].append(more[1])
        else:
            break
    return {name: "; ".join(what) for name, what in lacks.items()}


def parse_stanzas(text: str) -> tuple[Mapping[str, str], ...]:
    """Read the stanzas of ``apt-cache show``; only fields of one line are kept whole."""
    stanzas: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        key, colon, value = line.partition(": ")
        if not line.strip():
            stanzas.append({})
        elif colon and not key.startswith((" ", "\t")):
            stanzas[-1][key] = value.strip()
    return tuple(stanza for stanza in stanzas if stanza)


def parse_uris(text: str) -> Mapping[str, int]:
    """Read ``apt-get --print-uris``: file name -> bytes, of what is not yet in the cache."""
    found = (_URI.match(line) for line in text.splitlines())
    return {uri[1]: int(uri[2][:18]) for uri in found if uri}
