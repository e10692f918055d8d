"""Reads a folder of risk feeds: which files it uses, and which it refuses and why."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FeedError
from tasks.records.feeds.feed_files import FeedFile, FeedKind, join_risks, read_feed_file
from tasks.rules.automatic.deadlines import describe_risk_rule
from tasks.rules.automatic.model import CveRisk, RiskRule

_PATTERNS: Final = (
    (FeedKind.KEV, re.compile(r"known_exploited_vulnerabilities.*\.json(\.gz)?", re.IGNORECASE)),
    (FeedKind.EPSS, re.compile(r"epss_scores.*\.csv(\.gz)?", re.IGNORECASE)),
    (FeedKind.CVSS, re.compile(r"nvdcve-2\.0-.*\.json(\.gz)?", re.IGNORECASE)),
)
_NVD_YEAR: Final = re.compile(r"nvdcve-2\.0-(\d{4})\.", re.IGNORECASE)
_FIRST_NVD_YEAR: Final = 2002
"""NVD's file of this year has all earlier ones too."""

_IGNORED: Final = re.compile(r"\..*|.*(~|\.part|\.tmp|\.crdownload|\.meta|\.sha256|\.md|\.txt)|README", re.IGNORECASE)
_MAX_FILES: Final = 200
_LEAD_TOLERANCE: Final = timedelta(days=2)
"""How far a file's date may be ahead of the controller's clock."""

_NAMES: Final = (
    "known_exploited_vulnerabilities.json, epss_scores-YYYY-MM-DD.csv and nvdcve-2.0-YEAR.json, or these with .gz"
)


@dataclass(frozen=True, slots=True)
class FeedProblem:
    """Why a file, or the folder, is not used. ``str()`` is one line for people."""

    file: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.file} {self.message}. {self.hint}".rstrip()


@dataclass(frozen=True, slots=True)
class RiskFeeds:
    """What the feeds say."""

    risks: Mapping[str, CveRisk] = field(default_factory=dict)  # by CVE id, only of the wanted ones
    # The kinds of which there is a file that can be used, or that none of the vulnerabilities needs.
    kinds: frozenset[FeedKind] = frozenset()
    files: tuple[FeedFile, ...] = ()  # the used files
    problems: tuple[FeedProblem, ...] = ()  # the refused files


def load_risk_feeds(folder: Path | None, cves: Collection[str], max_age_days: float, now: datetime) -> RiskFeeds:
    """Return what the files of a folder say of vulnerabilities. A bad file is a problem, and the others still count.

    The file of KEV and of EPSS with the newest date within is used. Of NVD all files are used that may have one of the
    wanted vulnerabilities; what the newest one says of each counts.

    Args:
        folder: the folder; None: no feeds.
        cves: ids of the wanted vulnerabilities.
        max_age_days: files that are dated earlier are refused.
        now: the present time.
    """
    if folder is None:
        return RiskFeeds()
    candidates, problems = _find_files(folder)
    usable: list[FeedFile] = []
    needless: set[FeedKind] = set()
    for kind, path in candidates:
        if kind is FeedKind.CVSS and not _may_have(path, cves):
            needless.add(kind)
            continue
        try:
            feed_file = read_feed_file(path, kind, cves)
        except FeedError as error:
            problems.append(FeedProblem(str(path), error.fault, error.hint))
            continue
        usable.append(feed_file)
    chosen, refused = _choose_files(usable, max_age_days, now)
    risks: dict[str, CveRisk] = {}
    for source in sorted(chosen, key=lambda file: file.at):
        for cve, risk in source.risks.items():
            risks[cve] = join_risks(risks.get(cve, CveRisk()), risk)
    kinds = frozenset(source.kind for source in chosen) | (frozenset() if problems or refused else needless)
    return RiskFeeds(risks, kinds, tuple(chosen), (*problems, *refused))


def find_idle_rules(rules: Sequence[RiskRule], feeds: RiskFeeds) -> Mapping[int, tuple[FeedKind, ...]]:
    """Return the numbers of those rules that shorten no deadline now, each with the missing kinds of feeds."""
    files_by_kind = {}
    for number, rule in enumerate(rules, 1):
        needed = {
            FeedKind.KEV: rule.known_exploited,
            FeedKind.EPSS: rule.epss is not None,
            FeedKind.CVSS: rule.cvss is not None,
        }
        missing = tuple(kind for kind, is_needed in needed.items() if is_needed and kind not in feeds.kinds)
        if missing:
            files_by_kind[number] = missing
    return files_by_kind


def describe_idle_rules(rules: Sequence[RiskRule], feeds: RiskFeeds) -> tuple[str, ...]:
    """Return a sentence for each rule that shortens no deadline now."""
    return tuple(
        f"This rule shortens no deadline now, without {' and '.join(kinds)}: {describe_risk_rule(rules[number - 1])}"
        for number, kinds in find_idle_rules(rules, feeds).items()
    )


def _find_files(folder: Path) -> tuple[list[tuple[FeedKind, Path]], list[FeedProblem]]:
    try:
        paths = sorted(path for path in folder.iterdir() if not _IGNORED.fullmatch(path.name))
    except OSError as error:
        hint = "Correct `feeds`, or create the folder and make it readable for the user who runs fleetpatch."
        return [], [FeedProblem(str(folder), f"can't be read: {error.strerror or error}", hint)]
    if len(paths) > _MAX_FILES:
        message = f"has {len(paths)} files, more than {_MAX_FILES}"
        return [], [FeedProblem(str(folder), message, "Give a folder that has only risk feeds.")]
    files, problems = [], []
    for path in paths:
        kind = next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(path.name)), None)
        if kind is not None:
            files.append((kind, path))
        else:
            problems.append(FeedProblem(str(path), "is no known feed by its name", f"Names are {_NAMES}."))
    return files, problems


def _may_have(path: Path, cves: Collection[str]) -> bool:
    """Whether a file of NVD may have one of the vulnerabilities. A file of a year is not read for those of others."""
    match = _NVD_YEAR.match(path.name)
    if match is None:
        return True
    years = {max(_FIRST_NVD_YEAR, int(cve[4:8])) for cve in cves if cve[4:8].isdecimal()}
    return int(match[1]) in years


def _choose_files(
    usable: Sequence[FeedFile], max_age_days: float, now: datetime
) -> tuple[list[FeedFile], list[FeedProblem]]:
    refused: list[FeedProblem] = []
    chosen: list[FeedFile] = []
    for kind in FeedKind:
        files = sorted((feed_file for feed_file in usable if feed_file.kind is kind), key=lambda file: file.at)
        current = [feed_file for feed_file in files if not _describe_date_fault(feed_file, max_age_days, now)]
        chosen += current if kind is FeedKind.CVSS else current[-1:]
        if kind is FeedKind.CVSS or not current:  # an older copy beside a current one is no problem
            refused += _iterate_date_faults(files, max_age_days, now)
        else:
            refused += _iterate_date_faults(
                [feed_file for feed_file in files if feed_file.at > current[-1].at], max_age_days, now
            )
    return chosen, refused


def _iterate_date_faults(files: Sequence[FeedFile], max_age_days: float, now: datetime) -> Iterator[FeedProblem]:
    for feed_file in files:
        if fault := _describe_date_fault(feed_file, max_age_days, now):
            hint = (
                "Compare the clock of this controller with the file's date."
                if feed_file.at > now
                else "Download it again. Until then, rules that need it shorten no deadline."
            )
            yield FeedProblem(str(feed_file.path), fault, hint)


def _describe_date_fault(feed_file: FeedFile, max_age_days: float, now: datetime) -> str:
    if feed_file.at > now + _LEAD_TOLERANCE:
        return f"is refused: its date {feed_file.at:%Y-%m-%d} is in the future"
    if now - feed_file.at > timedelta(days=max_age_days):
        days = (now - feed_file.at).total_seconds() / 86_400
        return f"is refused: it is from {feed_file.at:%Y-%m-%d}, {days:.0f} days old, more than {max_age_days:g}"
    return ""
