"""Advisories of dnf 4 and dnf 5: a publisher's notices about newer versions, and what they say of an update. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.states import Classification
from tasks.machines.managers.script_output import group_values
from tasks.machines.managers.versions import RpmVersion, find_epoch_prefix
from tasks.rules.machine_checks.report_limits import MAX_ALL_ITEMS, require_count

SECURITY: Final = "security"
_FILE_PATTERN: Final = re.compile(r"(.+)-([^-]+-[^-]+)\.([^.]+)\.rpm")
_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,9}")
_PACKAGE_PATTERN: Final = re.compile(r"(.+)-([^-]+-[^-]+)\.([^.]+)")
_MAX_TEXT: Final = 300
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_SEVERITIES: Final = ("critical", "important", "moderate", "low")
"""Severities of security advisories, the worst first. SUSE and Fedora write them in lower case."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """One notice of a publisher."""

    id: str
    kind: str  # "security", "bugfix", "enhancement", …, as the publisher writes it, in lower case
    severity: str = ""  # as the publisher writes it; "" for none
    cves: tuple[str, ...] = ()
    published: datetime | None = None  # when it was published, or last changed if only that is known; None when unknown
    # (name, architecture) -> the versions that it is about, "[EPOCH:]VERSION-RELEASE".
    packages: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    knows_epochs: bool = True  # whether ``packages`` has epochs; if not, each version has the epoch of the update

    @property
    def is_security(self) -> bool:
        """Whether it is about a security fault."""
        return self.kind == SECURITY


AdvisoryIndex = Mapping[tuple[str, str], Sequence[Advisory]]
"""(name, architecture) -> the advisories about that package."""


@dataclass(frozen=True, slots=True)
class AdvisoryView:
    """What the advisories together say about one update."""

    classification: Classification
    ids: tuple[str, ...] = ()  # their ids, the newest first; () when there is no advisory about the update
    severity: str = ""
    cves: tuple[str, ...] = ()
    published: datetime | None = None  # of the advisory about the version to install; None when there is none
    security_versions: frozenset[str] = frozenset()  # the versions with security fixes


def require_few_cves(advisories: Iterable[Sequence[Advisory]]) -> None:
    """Require that updates together do not name more CVEs than any real machine's.

    A short answer may name many: each package of an advisory names all CVEs of it.

    Raises:
        ReportTooLarge: they do.
    """
    count = sum(len(advisory.cves) for of_update in advisories for advisory in of_update)
    require_count(count, MAX_ALL_ITEMS, "CVEs of all updates together")


def index_advisories(advisories: Iterable[Advisory]) -> AdvisoryIndex:
    """Return the advisories of each package."""
    return group_values((key, advisory) for advisory in advisories for key in advisory.packages)


def judge_update(
    index: AdvisoryIndex,
    key: tuple[str, str],
    *,
    installed: str | None,
    available: str,
    repository_has_advisories: bool,
) -> AdvisoryView:
    """Return what the advisories about versions after ``installed``, up to ``available``, say.

    Updates are cumulative: a security fix in a version between the two counts. Without any advisory, the update is
    "Other" if its repository publishes advisories, and "Unclassified" if it does not. ``key`` is name and architecture.
    Of a new package, ``installed`` is None, and only advisories about ``available`` count.
    """
    matches = [(advisory, _find_versions(advisory, key, installed, available)) for advisory in index.get(key, ())]
    matches = [(advisory, versions) for advisory, versions in matches if versions]
    if not matches:
        return AdvisoryView(Classification.OTHER if repository_has_advisories else Classification.UNCLASSIFIED)
    matches.sort(key=lambda pair: max(RpmVersion(version) for version in pair[1]), reverse=True)
    about = [advisory for advisory, _ in matches]
    urgent = [advisory for advisory in about if advisory.is_security]
    severity = _find_worst_severity(urgent)
    classification = Classification.SECURITY if urgent else Classification.OTHER
    return AdvisoryView(
        classification=Classification.CRITICAL if severity.lower() == _SEVERITIES[0] else classification,
        ids=tuple(dict.fromkeys(advisory.id for advisory in about)),
        severity=severity,
        cves=tuple(dict.fromkeys(cve for advisory in about for cve in advisory.cves)),
        published=next((advisory.published for advisory, versions in matches if available in versions), None),
        security_versions=frozenset(
            version for advisory, versions in matches if advisory.is_security for version in versions
        ),
    )


def _find_versions(advisory: Advisory, key: tuple[str, str], installed: str | None, available: str) -> tuple[str, ...]:
    epochs = (
        {""} if advisory.knows_epochs else {find_epoch_prefix(version) for version in (available, installed) if version}
    )
    versions = dict.fromkeys(epoch + version for version in advisory.packages.get(key, ()) for epoch in sorted(epochs))
    newest = RpmVersion(available)
    oldest = None if installed is None else RpmVersion(installed)
    return tuple(
        version
        for version in versions
        if RpmVersion(version) <= newest
        and (RpmVersion(version) == newest if oldest is None else RpmVersion(version) > oldest)
    )


def _find_worst_severity(advisories: Iterable[Advisory]) -> str:
    """Return the worst severity with a capital letter, "" for none. Unknown ones come last."""
    severities = {advisory.severity.strip().lower() for advisory in advisories} - {"", "none", "unspecified"}
    return next(
        (severity for severity in (*_SEVERITIES, *sorted(severities)) if severity in severities), ""
    ).capitalize()


def parse_advisories(text: str, *, knows_epochs: bool = False) -> tuple[Advisory, ...]:
    """Read the fields of ``dnf -v updateinfo info``: "LABEL: VALUE", the colon in column 12.

    ``knows_epochs``: the names of files have epochs ("a-1:2.0-1.noarch.rpm"), which dnf leaves out.
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
        published=_parse_date(next(iter(fields.get("Updated", ())), "")),
        packages=group_values(((match[1], match[3]), match[2].removeprefix("0:")) for match in files),
        knows_epochs=knows_epochs,
    )


def parse_severity(text: str) -> str:
    """Return an advisory's severity; "" for none. Rocky has written SEVERITY_CRITICAL."""
    word = text.removeprefix("SEVERITY_")
    return "" if word.lower() in {"none", "unspecified", "unknown", ""} else word[:_MAX_TEXT]


def _parse_date(text: str) -> datetime | None:
    """Read "2026-11-01 08:00:00" (UTC); None for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_dnf5_advisories(text: str) -> tuple[Advisory, ...]:
    """Read the JSON list. Anything that is not valid is left out.

    Raises:
        ValueError: it is no JSON list: dnf 5 gave no answer.
    """
    try:
        entries = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(entries, list):
        raise ValueError("no list")  # noqa: TRY004 (the answer is wrong, not the caller)
    return tuple(
        _build_dnf5_advisory(entry) for entry in entries if isinstance(entry, dict) and _get_text(entry, "Name")
    )


def _build_dnf5_advisory(entry: Mapping[str, object]) -> Advisory:
    names = _list_packages(entry.get("collections"))
    packages = (match for name in names if (match := _PACKAGE_PATTERN.fullmatch(name)))
    return Advisory(
        id=_get_text(entry, "Name"),
        kind=_get_text(entry, "Type").lower(),
        severity=parse_severity(_get_text(entry, "Severity")),
        cves=tuple(_list_cves(entry.get("references"))),
        published=_parse_dnf5_time(entry.get("Issued")),
        packages=group_values(((match[1], match[3]), match[2]) for match in packages),
    )


def _get_text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _list_packages(collections: object) -> Iterator[str]:
    for collection in collections if isinstance(collections, list) else [collections]:
        names = collection.get("packages") if isinstance(collection, dict) else None
        yield from (name for name in names or () if isinstance(name, str)) if isinstance(names, list) else ()


def _list_cves(references: object) -> Iterator[str]:
    for reference in references if isinstance(references, list) else ():
        name = reference.get("Id") if isinstance(reference, dict) else None
        if isinstance(name, str) and _CVE_PATTERN.fullmatch(name):
            yield name


def _parse_dnf5_time(value: object) -> datetime | None:
    """Read seconds since the epoch, or (before dnf 5.3) "2026-11-01 08:00:00"."""
    if type(value) is int and 0 < value <= _LAST_SECOND:
        return datetime.fromtimestamp(value, UTC)
    return _parse_date(value) if isinstance(value, str) else None
