"""The three kinds of feed files: what each says of the wanted vulnerabilities, and from when it is."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FeedError
from tasks.records.feeds.feed_text import COPY_AGAIN, iterate_json_members, iterate_text
from tasks.rules.automatic.model import CveRisk

_MAX_LINE_CHARACTERS: Final = 4096
_CVE: Final = re.compile(r"CVE-\d{4}-\d{4,19}")
_NEWEST_METRICS: Final = ("cvssMetricV40", "cvssMetricV31", "cvssMetricV30")
_OLD_METRICS: Final = ("cvssMetricV2",)


class FeedKind(StrEnum):
    """What a feed file tells."""

    KEV = "KEV"
    EPSS = "EPSS"
    CVSS = "CVSS"


@dataclass(frozen=True, slots=True)
class FeedFile:
    """The content of one file."""

    path: Path
    kind: FeedKind
    at: datetime  # the date within the file
    risks: Mapping[str, CveRisk]  # what it says of the wanted vulnerabilities


def read_feed_file(path: Path, kind: FeedKind, cves: Collection[str]) -> FeedFile:
    """Read a file.

    Args:
        path: the file, packed with gzip or not.
        kind: what it should be.
        cves: the wanted vulnerabilities.

    Raises:
        FeedError: it can't be read, is something else, damaged or half copied.
    """
    at, risks = _READERS[kind](path, frozenset(cves))
    return FeedFile(path, kind, at, risks)


def _read_kev(path: Path, cves: frozenset[str]) -> tuple[datetime, dict[str, CveRisk]]:
    released, entries, expected = "", 0, None
    risks: dict[str, CveRisk] = {}
    for key, value in iterate_json_members(path, "vulnerabilities"):
        if key == "dateReleased":
            released = str(value)
        elif key == "count":
            expected = value
        elif key == "vulnerabilities":
            entries += 1
            cve, added = _read_kev_entry(path, value)
            if cve in cves:
                risks[cve] = CveRisk(exploited_since=added)
    if not entries or (expected is not None and expected != entries):
        raise FeedError(
            f"is no complete catalogue of CISA: it has {entries} of {expected or 'unknown'} entries",
            file=path,
            hint=COPY_AGAIN,
        )
    return _parse_time(path, released, "dateReleased"), risks


def _read_kev_entry(path: Path, value: object) -> tuple[str, date]:
    entry = value if isinstance(value, dict) else {}
    cve, added = entry.get("cveID"), entry.get("dateAdded")
    try:
        if isinstance(cve, str) and _CVE.fullmatch(cve) and isinstance(added, str):
            return cve, date.fromisoformat(added)
    except ValueError:
        pass
    raise FeedError(
        f"is no catalogue of CISA: an entry has no `cveID` or `dateAdded` ({cve!s:.40})", file=path, hint=COPY_AGAIN
    )


def _read_epss(path: Path, cves: frozenset[str]) -> tuple[datetime, dict[str, CveRisk]]:
    lines = _iterate_lines(path)
    about = next(lines, "")
    if (match := re.match(r"#model_version:[^,]*,score_date:([^,]+)$", about)) is None:
        raise FeedError(
            "is no file of EPSS scores: its first line has no `#model_version:…,score_date:…`",
            file=path,
            hint="Take the file as FIRST offers it, with its first line.",
        )
    if next(lines, "") != "cve,epss,percentile":
        raise FeedError(
            "is no file of EPSS scores: its second line is not `cve,epss,percentile`", file=path, hint=COPY_AGAIN
        )
    risks: dict[str, CveRisk] = {}
    for number, line in enumerate(lines, 3):
        cve, _, score_text = line.partition(",")
        if cve in cves:
            risks[cve] = CveRisk(epss=_parse_probability(path, number, score_text))
        elif score_text.count(",") != 1 or not cve.startswith("CVE-"):
            raise FeedError(f"is damaged: line {number} is no `cve,epss,percentile`", file=path, hint=COPY_AGAIN)
    return _parse_time(path, match[1], "score_date"), risks


def _parse_probability(path: Path, number: int, score_text: str) -> float:
    try:
        value, _ = (float(part) for part in score_text.split(","))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise FeedError(f"is damaged: line {number} has no probability from 0 to 1", file=path, hint=COPY_AGAIN)
    return value


def _iterate_lines(path: Path) -> Iterator[str]:
    """Yield the lines. A last line without an end means that the copy is not complete."""
    remainder = ""
    for part in iterate_text(path):
        *whole, remainder = (remainder + part).split("\n")
        yield from (line.removesuffix("\r") for line in whole)
        if len(remainder) > _MAX_LINE_CHARACTERS:
            raise FeedError("is no table: it has a line that is too long", file=path, hint=COPY_AGAIN)
    if remainder:
        raise FeedError("ends in the middle of a line, as if half copied", file=path, hint=COPY_AGAIN)


def _read_nvd(path: Path, cves: frozenset[str]) -> tuple[datetime, dict[str, CveRisk]]:
    about: dict[str, object] = {}
    risks: dict[str, CveRisk] = {}
    entries = 0
    for key, value in iterate_json_members(path, "vulnerabilities"):
        if key != "vulnerabilities":
            about[key] = value
            continue
        entries += 1
        record = value.get("cve") if isinstance(value, dict) else None
        if not isinstance(record, dict) or not isinstance(cve := record.get("id"), str):
            raise FeedError("is no file of NVD: an entry has no `cve` with an `id`", file=path, hint=COPY_AGAIN)
        if cve in cves and (score := _find_base_score(record)) is not None:
            risks[cve] = CveRisk(cvss=score)
    if about.get("format") != "NVD_CVE" or about.get("version") != "2.0":
        raise FeedError(
            "is not in NVD's JSON format 2.0",
            file=path,
            hint="Download `nvdcve-2.0-YEAR.json.gz` from https://nvd.nist.gov/vuln/data-feeds.",
        )
    if (expected := about.get("resultsPerPage")) is not None and expected != entries:
        raise FeedError(f"is not complete: it has {entries} of {expected} entries", file=path, hint=COPY_AGAIN)
    return _parse_time(path, str(about.get("timestamp", "")), "timestamp"), risks


def _find_base_score(record: Mapping[str, object]) -> float | None:
    """Return the highest base score of CVSS 4.0, 3.1 and 3.0; of 2.0 only if there is none of these."""
    metrics = record.get("metrics")
    if not isinstance(metrics, dict):
        return None
    for names in (_NEWEST_METRICS, _OLD_METRICS):
        if scores := [score for name in names for score in _iterate_scores(metrics.get(name))]:
            return max(scores)
    return None


def _iterate_scores(metrics: object) -> Iterator[float]:
    for metric in metrics if isinstance(metrics, list) else ():
        data = metric.get("cvssData") if isinstance(metric, dict) else None
        score = data.get("baseScore") if isinstance(data, dict) else None
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 10:
            yield float(score)


def _parse_time(path: Path, text: str, key: str) -> datetime:
    """Return a time within a file; without an offset it is in UTC. Raise FeedError if it is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FeedError(f"has no date: `{key}` is {text[:40]!r}", file=path, hint=COPY_AGAIN) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_READERS: Final[Mapping[FeedKind, Callable[[Path, frozenset[str]], tuple[datetime, dict[str, CveRisk]]]]] = {
    FeedKind.KEV: _read_kev,
    FeedKind.EPSS: _read_epss,
    FeedKind.CVSS: _read_nvd,
}


def join_risks(first: CveRisk, second: CveRisk) -> CveRisk:
    """Return what both say; the second wins."""
    paths_by_feed = {
        name: value for name in ("exploited_since", "epss", "cvss") if (value := getattr(second, name)) is not None
    }
    return replace(first, **paths_by_feed)
