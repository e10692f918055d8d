"""Parsers for dnf's output (with LC_ALL=C). Pure. Lines that are not understood are ignored; nothing is raised."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tasks.machines.managers.rpm.advisories import Advisory, group_versions
from tasks.machines.managers.rpm.packages import (
    ARCH_PATTERN,
    NAME_PATTERN,
    VERSION_PATTERN,
    build_update_id,
    format_version,
    parse_natural,
    parse_vendor,
)
from tasks.rules.machine_checks.report_limits import MAX_TEXT_LENGTH, require_length

_FILE_PATTERN: Final = re.compile(r"(.+)-([^-]+-[^-]+)\.([^.]+)\.rpm")
_CHANGE_PATTERN: Final = re.compile(r"---> Package (\S+)\.([^.\s]+) (\S+) will be (?:an? )?(\w+)")
_END_PATTERN: Final = re.compile(r"^(?:Operation aborted|Nothing to do)", re.MULTILINE)
"""What a simulation ends with."""
_SPEC_PATTERN: Final = re.compile(r"[A-Za-z0-9_][\w.+~^:\-]*-[^-\s]+-[^-\s]+\.[a-z0-9_]+")
_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,9}")
_EXCLUDED_BEGINNINGS: Final = ("All matches were filtered out", "Argument '", "Packages for argument '")
"""What dnf 4 and dnf 5 say of a package that an exclusion, a lock or a module hides."""
_SKIPPED_REPOSITORY: Final = "no cache for '"
"""What dnf says of a repository that was never read, before it goes on without it."""
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class AvailablePackage:
    """A package that a repository offers.

    Attributes:
        size_bytes: its download size.
        source: name of its source package; "" when the repository does not say it.
    """

    id: str
    name: str
    arch: str
    version: str
    repository: str
    size_bytes: int | None
    source: str
    vendor: str


@dataclass(frozen=True, slots=True)
class DnfTransaction:
    """What dnf would do.

    Attributes:
        changes: (name, architecture) -> version that it would install.
        installs: those of ``changes`` that replace no older version.
        obsoleters: those of ``installs`` that replace packages of other names.
        removals: names of the packages that it would remove, or replace by others that obsolete them.
        unknown_specs: arguments that match no package.
        errors: why it refuses, one text for each problem.
        is_resolved: whether it found out what it would do. Otherwise a missing change says nothing.
    """

    changes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    installs: frozenset[tuple[str, str]] = frozenset()
    obsoleters: frozenset[tuple[str, str]] = frozenset()
    removals: tuple[str, ...] = ()
    unknown_specs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    is_resolved: bool = False


def parse_available_packages(text: str, native: str) -> tuple[AvailablePackage, ...]:
    """Read lines "name|epoch|version|release|arch|repository|size|source|vendor" of ``dnf repoquery``."""
    packages: list[AvailablePackage] = []
    for line in text.splitlines():
        fields = line.split("|", 8)
        if len(fields) != 9:
            continue
        require_length(line, MAX_TEXT_LENGTH, "of an available package")
        name, epoch, version, release, arch, repository, size, source, vendor = fields
        full = format_version(epoch, version, release)
        if NAME_PATTERN.fullmatch(name) and VERSION_PATTERN.fullmatch(full) and ARCH_PATTERN.fullmatch(arch):
            packages.append(
                AvailablePackage(
                    id=build_update_id(name, arch, native),
                    name=name,
                    arch=arch,
                    version=full,
                    repository=repository[:_MAX_TEXT],
                    size_bytes=parse_natural(size),
                    source="" if source == "(none)" else source[:_MAX_TEXT],
                    vendor=parse_vendor(vendor),
                )
            )
    return tuple(dict.fromkeys(packages))


def parse_repository_ids(text: str) -> tuple[str, ...]:
    """Read ``dnf -q repolist``: the ids of the enabled repositories, below the line "repo id …", or one a line.

    Plugins (subscription-manager's, for example) write sentences above it.
    """
    _, heading, rows = f"\n{text}".partition("\nrepo id ")
    lines = [line.split() for line in (rows.splitlines()[1:] if heading else text.splitlines())]
    ids = (cells[0] for cells in lines if cells and (heading or len(cells) == 1))
    return tuple(repository_id.lstrip("!*") for repository_id in ids if repository_id != "repolist:")


def parse_advisory_sources(text: str) -> Mapping[str, bool]:
    """Read lines "repository<tab>true/false", the newest first: whether a repository that was read has advisories."""
    values: dict[str, bool] = {}
    for line in text.splitlines():
        repository, tab, answer = line.partition("\t")
        if tab:
            values.setdefault(repository, answer == "true")
    return values


def parse_priorities(text: str) -> Mapping[str, int]:
    """Read lines "repository<tab>priority"."""
    rows = (line.partition("\t") for line in text.splitlines())
    return {name: number for name, _, value in rows if (number := parse_natural(value.strip())) is not None}


def parse_advisories(text: str, *, knows_epochs: bool = False) -> tuple[Advisory, ...]:
    """Read the fields of ``dnf -v updateinfo info``: "LABEL: VALUE", the colon in column 12.

    Args:
        text: the lines.
        knows_epochs: whether the names of files have epochs ("a-1:2.0-1.noarch.rpm"), which dnf leaves out.
    """
    return tuple(_build_advisory(fields, knows_epochs) for fields in _split_advisories(text) if fields["Update ID"][0])


def _split_advisories(text: str) -> Iterator[Mapping[str, Sequence[str]]]:
    fields: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        if line[11:13] not in {": ", ":"}:
            continue
        label = line[:11].strip() or label
        if label == "Update ID" and fields:
            yield fields
            fields = {}
        if label == "Update ID" or fields:
            fields.setdefault(label, []).append(line[13:].strip())
    if fields:
        yield fields


def _build_advisory(fields: Mapping[str, Sequence[str]], knows_epochs: bool) -> Advisory:
    files = (match for name in fields.get("Files", ()) if (match := _FILE_PATTERN.fullmatch(name)))
    return Advisory(
        id=fields["Update ID"][0][:_MAX_TEXT],
        kind=next(iter(fields.get("Type", ())), "").lower()[:_MAX_TEXT],
        severity=parse_severity(next(iter(fields.get("Severity", ())), "")),
        cves=tuple(cve for cve in fields.get("CVEs", ()) if _CVE_PATTERN.fullmatch(cve)),
        published=parse_date(next(iter(fields.get("Updated", ())), "")),
        packages=group_versions((match[1], match[3], match[2].removeprefix("0:")) for match in files),
        knows_epochs=knows_epochs,
    )


def parse_severity(text: str) -> str:
    """Return an advisory's severity; "" for none. Rocky has written SEVERITY_CRITICAL."""
    word = text.removeprefix("SEVERITY_")
    return "" if word.lower() in {"none", "unspecified", "unknown", ""} else word[:_MAX_TEXT]


def parse_date(text: str) -> datetime | None:
    """Read "2026-11-01 08:00:00" (UTC); None for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_reboot_suggestions(text: str) -> frozenset[tuple[str, str]]:
    """Read lines "name<tab>epoch<tab>version<tab>release<tab>arch": name and version."""
    rows = (line.split("\t") for line in text.splitlines())
    return frozenset((row[0], format_version(*row[1:4])) for row in rows if len(row) == 5)


def parse_needed_by(text: str, native: str) -> Mapping[str, tuple[str, ...]]:
    """Read lines "new<tab>needer", both "name.arch": id of a new package -> ids of the packages that need it."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        (new, new_arch), (needer, arch) = (part.rpartition(".")[::2] for part in (line.partition("\t")[::2]))
        key = build_update_id(new, new_arch, native)
        values.setdefault(key, []).append(build_update_id(needer, arch, native))
    return {key: tuple(needers) for key, needers in values.items()}


def parse_transaction(text: str) -> DnfTransaction:
    """Read what ``dnf -v --assumeno`` says about a transaction: its lines "---> Package …", and its errors."""
    changes: dict[tuple[str, str], str] = {}
    installs, removals = set[tuple[str, str]](), list[tuple[str, str]]()
    obsoleters = set[tuple[str, str]]()
    newest = None  # what a package replaces comes right after it
    for match in _CHANGE_PATTERN.finditer(text):
        name, arch, version, action = match.groups()
        if action in {"installed", "upgrade", "downgrade", "reinstalled"}:
            changes[name, arch] = version
            newest = (name, arch)
        if action == "installed":
            installs.add((name, arch))
        elif action in {"erased", "obsoleted"}:
            removals.append((name, arch))
            if action == "obsoleted" and newest in installs:
                obsoleters.add(newest)
    unknown = re.findall(r"^No match for argument: (\S+)", text, re.MULTILINE)
    # an old kernel goes beside its new one; a package of another architecture is not the same one
    gone = tuple(
        name for name, arch in removals if not any((name, new_arch) in changes for new_arch in (arch, "noarch"))
    )
    return DnfTransaction(
        changes,
        frozenset(installs),
        frozenset(obsoleters),
        gone,
        tuple(dict.fromkeys(unknown)),
        _parse_errors(text),
        is_resolved=bool(changes or _END_PATTERN.search(text)),
    )


def _parse_errors(text: str) -> tuple[str, ...]:
    """Return each "Problem" with its explanations, and each "Error:" that is not only their heading."""
    errors: list[str] = []
    for line in text.splitlines():
        if line.startswith((" Problem", "Problem")):
            errors.append(line.partition(":")[2].strip())
        elif line.startswith("  - ") and errors:
            errors[-1] += f"; {line[4:].strip()}"
        elif line.startswith(_EXCLUDED_BEGINNINGS):
            errors.append(line.strip())
        elif line.startswith("Error:") and line[6:].strip() and _SKIPPED_REPOSITORY not in line:
            errors.append(line[6:].strip())
    return tuple(error[:1000] for error in dict.fromkeys(errors))


def find_specs(text: str) -> frozenset[str]:
    """Return the packages NAME-VERSION-RELEASE.ARCH that a text mentions."""
    return frozenset(_SPEC_PATTERN.findall(text))
