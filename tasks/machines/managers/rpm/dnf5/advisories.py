"""Advisories as ``dnf5 advisory info --json`` gives them. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from tasks.machines.managers.rpm.advisories import Advisory, group_versions
from tasks.machines.managers.rpm.dnf.output_parsers import parse_date, parse_severity

_PACKAGE_PATTERN: Final = re.compile(r"(.+)-([^-]+-[^-]+)\.([^.]+)")
_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,9}")
_MAX_TEXT: Final = 300
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


def parse_advisories(text: str) -> tuple[Advisory, ...]:
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
    return tuple(_build_advisory(entry) for entry in entries if isinstance(entry, dict) and _get_text(entry, "Name"))


def _build_advisory(entry: Mapping[str, object]) -> Advisory:
    names = _list_packages(entry.get("collections"))
    packages = (match for name in names if (match := _PACKAGE_PATTERN.fullmatch(name)))
    return Advisory(
        id=_get_text(entry, "Name"),
        kind=_get_text(entry, "Type").lower(),
        severity=parse_severity(_get_text(entry, "Severity")),
        cves=tuple(_list_cves(entry.get("references"))),
        published=_parse_time(entry.get("Issued")),
        packages=group_versions((match[1], match[3], match[2]) for match in packages),
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


def _parse_time(value: object) -> datetime | None:
    """Read seconds since the epoch, or (before dnf 5.3) "2026-11-01 08:00:00"."""
    if type(value) is int and isinstance(value, int) and 0 < value <= _LAST_SECOND:
        return datetime.fromtimestamp(value, UTC)
    return parse_date(value) if isinstance(value, str) else None
