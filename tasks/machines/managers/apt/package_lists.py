"""What ``apt-get update`` could not read, and whether apt has lists at all, and of what age. Pure.

Only what apt itself says decides: it names each repository that it could not read in an error, in "Failed to fetch" or
in "Err:", and then uses older lists or none (apt-pkg/acquire-item.cc). Every other warning is a remark on a repository
that was read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import READ_LISTS_REMEDY, ListsUnread, ManagerBusy, ManagerError, RepositoryError
from tasks.domain.model import RepositoryProblem
from tasks.machines.managers.apt.output_parsers import Release
from tasks.machines.managers.repository_problems import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    MAX_PROBLEMS,
    build_repository_error,
    build_repository_problem,
    build_slow_problem,
    find_old_copy_problem,
    redact_complaint,
)
from tasks.machines.managers.script_output import ENDED_CODES, ScriptSection, split_rows
from tasks.machines.managers.versions import DebianVersion

_LOCK_ERROR_PREFIX: Final = "Could not get lock "
_TWICE_WORDS: Final = " is configured multiple times"
_SUMMARY_PREFIX: Final = "Some index files failed to download"
_HOOK_ERRORS: Final = ("Problem executing scripts APT::Update::", "Sub-process returned an error code")
_PROGRESS_PATTERN: Final = re.compile(r"^(Hit|Get|Ign|Err):\d+ (\S+ \S+)(.*)$")
_FETCH_PATTERN: Final = re.compile(r"^Failed to fetch (\S+) +(.*)$")
_EXPIRED_PATTERN: Final = re.compile(r"^Release file for (\S+) is ")
_SENTENCE_PATTERN: Final = re.compile(r"^(?:The r|R)epository '(\S+ \S+)[^']*' ")
_SIGNATURE_PATTERN: Final = re.compile(
    r"^(An error occurred during the signature .*)?GPG error: (\S+ [^\s:]+)[^:]*: (.*)$"
)
_SKIPPED_PATTERN: Final = re.compile(
    r"^Skipping acquire of configured file '([^']*)' as repository '(\S+ \S+)[^']*' does(?:n't have the comp| not )"
)
_SOURCE_PATTERN: Final = re.compile(r"^'([^']+)' (\S+) ")
_NO_FIXES_SUITE_PATTERN: Final = re.compile(r"-(?:backports(?:-sloppy)?|debug)$")
_NO_FIXES_FILE_PATTERN: Final = re.compile(r"/source/Sources|/i18n/Translation-| Sources$| Translation-\S+$")
_MAX_SECURITY_AGE: Final = timedelta(days=30)
_FROZEN_REMEDY: Final = "Find out why nobody renews it: a mirror that no longer follows, a snapshot, an ended release."
_STABLE_SUITES: Final = frozenset({"stable", "oldstable", "oldoldstable"})


@dataclass(slots=True)
class _Complaints:
    """What apt said about a repository."""

    name: str  # as in sources.list: URL and suite.
    reasons: list[str] = field(default_factory=list)  # why something was not read, then sentences that tell less
    has_failed: bool = False  # whether apt could not read it
    files: set[str] = field(default_factory=set)  # the files that it could not read; "" for the repository itself

    def build_problem(self) -> RepositoryProblem:
        """Return the problem, with the line that tells most."""
        minor = bool(self.files) and all(_NO_FIXES_FILE_PATTERN.search(file) for file in self.files)
        no_fixes = minor or _NO_FIXES_SUITE_PATTERN.search(self.name.rpartition(" ")[2].partition("/")[0])
        reasons = self.reasons or ["apt could not read it, and gave no reason"]
        return build_repository_problem(self.name, reasons, hides_fixes=not no_fixes)


class _UpdateReader:
    """Reads the lines of ``apt-get update``, and assigns the complaints to repositories."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._remarks: dict[str, str] = {}
        self._repositories: dict[str, _Complaints] = {}
        self._others: list[str] = []
        self._of_hooks: list[str] = []
        self._has_summary = False
        failed: _Complaints | None = None
        for line in lines:
            if match := _PROGRESS_PATTERN.match(line):
                failed = self._fail(match[2], file=match[3]) if match[1] == "Err" else None
            elif failed is not None and line.startswith("  "):
                failed.reasons.append(line.strip())
            elif line.startswith(("E: ", "W: ")):
                self._read_complaint(line[3:].strip(), is_error=line.startswith("E"))

    def list_remarks(self) -> tuple[str, ...]:
        """Return what apt remarked on repositories that it read, each cause once."""
        return tuple(redact_complaint(remark) for remark in list(self._remarks.values())[:MAX_PROBLEMS])

    def build_problems(self, exit_code: int) -> tuple[RepositoryProblem, ...]:
        """Return the repositories that were not read; if apt named none although it failed, its words about all."""
        failed = [repository for repository in self._repositories.values() if repository.has_failed]
        problems = [repository.build_problem() for repository in failed]
        if self._others or (not problems and (self._has_summary or (exit_code and not self._of_hooks))):
            message = "; ".join(self._others[:3]) or f"{_SUMMARY_PREFIX} (apt-get update ended with {exit_code})"
            problems.append(build_repository_problem("", [message]))
        if self._of_hooks:
            problems.append(build_repository_problem("", ["; ".join(self._of_hooks[:2])], hides_fixes=False))
        return tuple(dict.fromkeys(problems))[:MAX_PROBLEMS]

    def _read_complaint(self, text: str, *, is_error: bool) -> None:
        if text.startswith(_SUMMARY_PREFIX):
            self._has_summary = True
        elif match := _FETCH_PATTERN.match(text):
            self._fail(_split_url(match[1]), match[2], file=match[1])
        elif match := _SIGNATURE_PATTERN.match(text):
            if is_error or match[1]:
                self._fail(match[2], match[3])
            else:  # whether that matters, another line says
                self._get(match[2]).reasons.append(match[3])
        elif (match := _SKIPPED_PATTERN.match(text)) and not _NO_FIXES_FILE_PATTERN.search(f"/{match[1]}"):
            self._fail(match[2], text)
        elif not is_error:
            self._remarks.setdefault(text.partition(_TWICE_WORDS)[2] or text, text)
        elif match := _EXPIRED_PATTERN.match(text):
            self._fail(_split_url(match[1]), text)
        elif match := _SENTENCE_PATTERN.match(text):
            self._fail(match[1], text)
        else:
            (self._of_hooks if text.startswith(_HOOK_ERRORS) else self._others).append(text)

    def _get(self, name: str) -> _Complaints:
        return self._repositories.setdefault(_build_key(name), _Complaints(name))

    def _fail(self, name: str, *reasons: str, file: str = "") -> _Complaints:
        complaints = self._get(name)
        complaints.has_failed = True
        complaints.reasons += reasons
        complaints.files.add(file if _NO_FIXES_FILE_PATTERN.search(file) else "")
        return complaints


def _split_url(url: str) -> str:
    """Return URL and suite, as in sources.list, of a repository's file."""
    base, separator, suite_path = url.partition("/dists/")
    return f"{base} {suite_path.partition('/')[0]}" if separator else f"{url.rpartition('/')[0].removesuffix('/.')} ./"


def _build_key(name: str) -> str:
    """Return what all names of a repository have in common: apt writes a suite with or without its component."""
    url, _, suite = name.partition(" ")
    flat = suite.endswith("/")
    return f"{url.rstrip('/')}/{suite.strip('./')}".rstrip("/") if flat else f"{url.rstrip('/')} {suite.split('/')[0]}"


def read_refresh(
    update: ScriptSection, sources: str = "", partial: str = ""
) -> tuple[tuple[RepositoryProblem, ...], tuple[str, ...]]:
    """Return the repositories that ``apt-get update`` did not read, and its remarks on those that it read.

    If it was ended, ``sources`` has the lines of ``apt-get --print-uris update``, and ``partial`` the names of the
    files that it had begun to read.

    Raises:
        ManagerBusy: another process was reading the lists all the time.
        RepositoryError: no repository answered.
        ManagerError: apt can't work at all (a malformed configuration).
    """
    lines = [line[:MAX_LINE_LENGTH] for line in update.text.splitlines()]
    complaints = [line[3:].strip() for line in lines if line.startswith(("E: ", "W: "))]
    if any(complaint.startswith(_LOCK_ERROR_PREFIX) for complaint in complaints):
        raise ManagerBusy(next(text for text in complaints if text.startswith(_LOCK_ERROR_PREFIX)))
    reader = _UpdateReader(lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], *lines[-MAX_LINES:]])
    was_ended = update.exit_code in ENDED_CODES
    problems = () if was_ended else reader.build_problems(update.exit_code)
    if was_ended:
        problems = _find_slow_repositories(lines, sources, partial)
    answered = any(line.startswith(("Hit:", "Get:")) for line in lines)
    failed = any(line.startswith("Err:") for line in lines)
    if not answered and (failed or update.exit_code != 0):
        if not (failed or was_ended or any(line.startswith("Ign:") for line in lines)):
            raise ManagerError(
                "; ".join(complaints[:3]) or f"apt-get update ended with {update.exit_code}",
                hint="Run apt-get update on the machine: apt does not get as far as asking anyone.",
            )
        raise build_repository_error(problems, f"apt-get update ended with {update.exit_code}")
    return problems, reader.list_remarks()


def _find_slow_repositories(lines: Iterable[str], sources: str, partial: str) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that an update did not read before it was ended, the slow ones first.

    Only one that has nothing new ("Hit") was certainly read: apt takes over the lists of a repository at once.
    """
    progress = [match for line in lines if (match := _PROGRESS_PATTERN.match(line))]
    unchanged = {_build_key(match[2]) for match in progress if match[1] == "Hit"}
    begun = partial.split()
    slow, waiting = list[RepositoryProblem](), list[RepositoryProblem]()
    for url, file in _parse_sources(sources).items():
        name = _split_url(url)
        if _build_key(name) in unchanged:
            continue
        prefix = file.removesuffix("InRelease").removesuffix("Release")
        is_slow = any(file_name.startswith(prefix) for file_name in begun)
        (slow if is_slow else waiting).append(build_slow_problem(name, has_begun=is_slow))
    return tuple(dict.fromkeys((*slow, *waiting)))[:MAX_PROBLEMS]


def _parse_sources(text: str) -> Mapping[str, str]:
    """Return URL -> name of the list, of the lines of ``apt-get --print-uris update``."""
    matches = (_SOURCE_PATTERN.match(line) for line in text.splitlines()[:MAX_LINES])
    return {match[1]: match[2] for match in matches if match}


def find_stale_lists(
    sources: str, lists: str, validity: str, *, lists_at: int, now: int
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories whose lists are too old to tell what is missing. For a reading without a refresh.

    Args:
        sources: lines of ``apt-get --print-uris update``.
        lists: lines "FILE<tab>Valid-Until…" of the lists that apt has.
        validity: ``apt-config dump Acquire::Check-Valid-Until``.
        lists_at: when apt last read lists; 0: unknown.
        now: the time, by the machine's clock.
    """
    rows = [line.partition("\t") for line in lists.splitlines()[:MAX_LINES]]
    until = {file: fields.partition("\t")[0] for file, _, fields in rows}
    checks = '"false"' not in validity.lower() and '"0"' not in validity
    problems = list[RepositoryProblem]()
    for url, file in _parse_sources(sources).items():
        name, release = _split_url(url), f"{file.removesuffix('InRelease')}Release"
        if file not in until and release not in until:
            problems.append(build_repository_problem(name, ["its lists were never read"]))
            continue
        expiry = _parse_date(until.get(file) or until.get(release) or "")
        if checks and expiry is not None and expiry.timestamp() < now:
            message = f"its lists were valid until {expiry:%Y-%m-%d %H:%M} UTC, and were not read again"
            problems.append(build_repository_problem(name, [message]))
    if lists_at and (old := find_old_copy_problem("", lists_at, now)):
        problems.append(old)
    return tuple(problems)[:MAX_PROBLEMS]


def find_frozen_archives(sources: str, lists: str, now: int) -> tuple[RepositoryProblem, ...]:
    """Return the security archives of distributions that are out of date: their publisher did not renew them.

    They are of a mirror that no longer follows its publisher, of a snapshot, or of an ended release. apt accepts them,
    if it does not look at Valid-Until.
    Debian says until when its security archive is valid: 7 days. Ubuntu's has no such date. It has several notices a
    week, and new kernels every 2 to 4 weeks. After the end of standard support its fixes are in those of Ubuntu Pro.

    Args:
        sources: lines of ``apt-get --print-uris update``.
        lists: lines "FILE<tab>Valid-Until<tab>Date<tab>Label<tab>Suite" of the lists that apt has.
        now: the time, by the machine's clock.
    """
    rows = {file: cells for file, *cells in islice(split_rows(lists, 5), MAX_LINES)}
    extended = {suite.partition("-")[0] for *_, label, suite in rows.values() if label == "UbuntuESM"}
    problems = list[RepositoryProblem]()
    for url, file in _parse_sources(sources).items():
        row = rows.get(file) or rows.get(f"{file.removesuffix('InRelease')}Release")
        if row is None:
            continue
        until, written, (label, suite) = _parse_date(row[0]), _parse_date(row[1]), row[2:]
        is_judged = label == "Debian-Security" or (label == "Ubuntu" and suite.endswith("-security"))
        if not is_judged or written is None or suite.removesuffix("-security") in extended:
            continue
        end = until or written + _MAX_SECURITY_AGE
        if end.timestamp() < now:
            message = f"its content is of {written:%Y-%m-%d}" + (
                f", and was valid until {until:%Y-%m-%d}" if until else ""
            )
            problems.append(RepositoryProblem(redact_complaint(_split_url(url))[:100], message, _FROZEN_REMEDY))
    return tuple(problems)[:MAX_PROBLEMS]


def _parse_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def find_missing_security(releases: Iterable[Release]) -> tuple[RepositoryProblem, ...]:
    """Return a problem if a release is configured without the repository where alone its security fixes are.

    Of several releases of Debian, the one from which apt takes packages counts: the newest with the highest priority.
    Ubuntu's fixes are also in the suite CODENAME-updates.
    """
    known_releases = list(releases)
    lacking = [(f"Debian-Security of {name}", name, "Debian") for name in _find_lacking_debian(known_releases)]
    suites = {release.archive for release in known_releases}
    ubuntu = {r.codename for r in known_releases if r.label == "Ubuntu" and r.archive == r.codename} - {""}
    lacking += [
        (f"{name}-security", name, "Ubuntu")
        for name in sorted(ubuntu)
        if not suites & {f"{name}-security", f"{name}-updates"}
    ]
    return tuple(
        RepositoryProblem(
            repository,
            f"it is not configured, and {publisher} publishes the security fixes of a release there alone",
            f"Add the suite {name}-security to the package sources.",
        )
        for repository, name, publisher in lacking
    )


def _find_lacking_debian(releases: Sequence[Release]) -> tuple[str, ...]:
    stable = [release for release in releases if release.label == "Debian" and release.archive in _STABLE_SUITES]
    if not stable:
        return ()
    newest = max(stable, key=lambda release: (release.priority, DebianVersion(release.version)))
    name = newest.codename or newest.archive
    # "bookworm-security"; before Debian 11 the release's own codename
    secured = {
        (release.codename or release.archive).removesuffix("-security")
        for release in releases
        if release.label == "Debian-Security"
    }
    return () if name in secured else (name,)


def require_package_lists(releases_known: int, *, unread: bool) -> None:
    """Raise if apt has no package list: such a machine must not count as up to date.

    ``unread``: repositories are configured, and no list of any of them was ever read.

    Raises:
        ListsUnread: the lists were never read.
        RepositoryError: no repository is configured.
    """
    if releases_known:
        return
    if unread:
        raise ListsUnread(
            "apt has never read its package lists, so what is pending is not known", hint=READ_LISTS_REMEDY
        )
    raise RepositoryError(
        "no package source is configured, so nothing can be pending",
        hint="Give the machine package sources (/etc/apt/sources.list.d).",
    )
