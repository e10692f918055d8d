"""Repositories of dnf, yum and zypper: which ones could not be read, by what the tool said, and priorities. Pure.

dnf 4 and zypper name a repository before their complaints, and again after them. dnf 5 writes its progress line before
them; yum names it only after them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import RepositoryProblem
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.repository_problems import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    MAX_PROBLEMS,
    RepositoryCause,
    build_repository_problem,
    build_slow_problem,
    drop_repository_names,
    find_old_copy_problem,
)
from tasks.machines.managers.script_output import (
    ENDED_CODES,
    ScriptSection,
    parse_natural,
    require_integer,
    require_single_record,
)

_MAX_CHARACTERS: Final = 200_000

_RENEW: Final = (
    "Look at the machine's subscription (subscription-manager status; SUSEConnect --status) and renew its certificate "
    "or password (subscription-manager refresh). On a cloud image, update the provider's client package from the "
    "provider's own repository."
)
RPM_CAUSES: Final = (
    RepositoryCause(
        r"not registered|not receiving updates|no repositories available through subscriptions|has been deleted"
        r"|index file for service",
        "Register the machine and give it a subscription (subscription-manager register; SUSEConnect), or configure "
        "repositories that need none.",
    ),
    RepositoryCause(
        r"local (?:SSL|client) certificate|[Cc]url error \(58\)|curl#58|X\.509 key or certificate"
        r"|PEM client certificate|alert (?:bad|unknown|expired|revoked|certificate)|certificate required",
        _RENEW,
    ),
    RepositoryCause(
        r"(?:rhui|cdn\.redhat\.com|susecloud|updates\.suse\.com).*(?:certificate|40[13]|denied)", _RENEW, in_names=True
    ),
)
"""What only these package managers say, for certain."""
_COMPLAINT_PATTERN: Final = re.compile(
    r"has been deleted|index file for service|certificate|[Cc]url error|curl#\d+|X\.509|SSL (?:connect|routines|peer)"
    r"|TLS handshake|gnutls|GPG (?:signature|verification|error|key)|[PG]GP signature|[Ss]ignatures? (?:ver|could)"
    r"|NOKEY|Public key for|is (?:not signed|unsigned|no longer signed)|signing key rec|were invalid"
    r"|checksum doesn't match|does not match (?:checksum|metalink)|wrong checksum|Digest verif|No URLs in mirrorlist"
    r"|Status code: [345]\d\d|[Ee]rror(?: code)?:? [45]\d\d\b|: [45]\d\d\b|  [45]\d\d (?! *[kMGTP]?B\b)"
    r"|Permission to access|Login failed|Authentication required|[Cc]ould(?:n't| not) (?:resolve|connect)"
    r"|[Nn]ame resolution|[Tt]imeout|[Tt]imed out|too slow|Connection failed|Failed to connect|refused|No route"
    r"|unreachable|not found on medium|type can't be determined|Valid metadata not found|metadata expired"
    r"|appears to be outdated"
    r"|older than what|is expired|Error building the cache|Failed to cache repo|no cache for|been cached"
    r"|missing metadata|Cannot (?:download|prepare)|[Nn]o more mirrors|[Mm]irrors were (?:already )?tried"
    r"|Usable URL not found|baseurl"
    r"|Can't provide|Failed to (?:fetch|download|retrieve)|is invalid|Damaged"
)
"""Words of which one is in each line that says why a repository was not read."""

_BEGIN_PATTERN: Final = re.compile(
    r"^(?:Warning: )?(?:"
    r"Errors during downloading metadata for repository '([^']+)'"
    r"|Problem retrieving (?:files|the repository index file) (?:from|for service) '([^']+)'"
    r"|Retrieving repository '([^']+)' metadata"
    r"|File '[^']+' from repository '([^']+)'"
    r"|Repository '([^']+)' (?:is invalid|metadata expired|appears to be outdated)"
    r"| *(\S+(?: +\S+)*?) +\d{1,3}% \|"
    r")"
)
"""The complaints of the next lines are about this repository."""

_END_PATTERN: Final = re.compile(
    r"Failed to download metadata for repo '([^']+)'"
    r"|Failed to download metadata \(.*\) for repository \"([^\"]+)\""
    r"|Failed to synchronize cache for repo '([^']+)'"
    r"|no cache for '([^']+)'"
    r"|^failure: \S+ from ([^:\s]+):"
    r"|Cannot retrieve (?:repository metadata \(\S+\)|metalink) for repository: ([^\s.]+)"
    r"|Cannot find a valid baseurl for repo: ([^\s/]+)"
    r"|^(?:Warning: )?Skipping (?:repository|service) '([^']+)'"
)
"""This repository can't be used. The complaints before this line that have no repository are about it."""

_GIVEN_UP_PATTERN: Final = re.compile(r"^>>> (?:Librepo error|Usable URL not found|No URLs)")
"""dnf 5 has tried all mirrors. Before that, its lines ">>> " are about single mirrors."""
_LIST_OF_IGNORED_PATTERN: Final = re.compile(r"^Ignoring repositories: (.+)")
_REGISTRATION_PATTERN: Final = re.compile(r"not registered|not receiving updates|available through subscriptions")
_NOTHING_ENABLED_PATTERN: Final = re.compile(r"[Nn]o enabled repo|[Nn]o repositories defined")
_PROGRESS_PATTERN: Final = re.compile(r"\| +[\d.]+ +[kMGTP]?B +(?:\d\d:)?\d\d:\d\d(?: ETA)? *$")
"""A line of dnf 4 or yum about a download: a repository's name, numbers, and the time that it took."""
_CENTOS_PATTERN: Final = re.compile(r"mirrorlist\.centos\.org|//mirror\.centos\.org")
_NO_FIXES_PATTERN: Final = re.compile(
    r"[-_:](?:debug|debuginfo|debugsource|source|srpm)s?(?:[-_](?:rpms|updates?|pool|non-oss))*$", re.IGNORECASE
)
"""The ends of the names of such repositories at Red Hat, Fedora, their rebuilds and SUSE."""
_ADVICE_PATTERN: Final = re.compile(r"^\s+\d\. |^ One of the configured|URIs defined for this repository")


def find_rpm_repository_problems(text: str) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that could not be read, with the remedies; () when the text has no complaint.

    A missing registration is only reported together with another problem. Cloud images with repositories of their own
    always say that they are not registered.

    Args:
        text: what the package manager wrote while it read its repositories: standard output and standard error.
            Complaints in XML (zypper) must be plain text already.
    """
    reader = _ComplaintReader()
    for line in _join_lines(text[:_MAX_CHARACTERS]).splitlines()[:MAX_LINES]:
        reader.read(line[:MAX_LINE_LENGTH])
    problems = [_build_problem(name, lines) for name, lines in reader.list_failed().items()]
    if problems:
        problems += [replace(_build_problem("", [note]), hides_fixes=False) for note in reader.notes]
    return tuple(dict.fromkeys(problems))[:MAX_PROBLEMS]


@dataclass(frozen=True, slots=True)
class RepositoryCopy:
    """The machine's copy of a repository's data."""

    read_at: int  # when it was last found to be current, in seconds since 1970 by the machine's clock; 0: unknown
    is_being_read: bool = False  # whether the package manager had begun to read it again


@dataclass(frozen=True, slots=True)
class RefreshTimes:
    """When a machine began to read its repositories, and the time now, both by its clock."""

    began: int | None  # None without a refresh
    now: int
    was_ended: bool = False  # whether the reading was ended because it took too long

    @classmethod
    def parse(cls, result: ScriptResult, update: ScriptSection | None) -> "RefreshTimes":
        """Read the record "state" of rpm_assess.sh. ``update`` is the refresh; None without one.

        Raises:
            ProtocolViolation: it is malformed.
        """
        state = require_single_record(result, "rpm_assess", "state")
        began = require_integer(state, "began") if update is not None and "began" in state else None
        return cls(began, require_integer(state, "at"), update is not None and update.exit_code in ENDED_CODES)


def find_unread_repositories(
    names: Iterable[str], copies: Mapping[str, RepositoryCopy], times: RefreshTimes, text: str
) -> tuple[RepositoryProblem, ...]:
    """Return the repositories that were not read. What the machine has decides that, and not the tool's words.

    ``copies`` is what the machine has of them. Without a refresh, a copy that is too old tells nothing any more.
    ``text`` is what the tool said while it read them: the reasons.
    """
    repository_problems = find_rpm_repository_problems(text)
    if times.was_ended:  # what is said of others then only follows from that
        repository_problems = tuple(problem for problem in repository_problems if problem.repository)
    named_repositories = {problem.repository for problem in repository_problems}
    slow, problems = list[RepositoryProblem](), list(repository_problems)
    for name in names:
        copy = copies.get(name, RepositoryCopy(0))
        if name in named_repositories:
            continue
        if times.began is None:
            problem = find_old_copy_problem(name, copy.read_at, times.now) if copy.read_at else None
        elif copy.read_at >= times.began:
            continue
        elif times.was_ended:
            problem = build_slow_problem(name, has_begun=copy.is_being_read)
        elif not copy.read_at:  # it was never read: others tell that
            continue
        else:
            problem = _build_problem(name, ["it was not read again, and no reason was given"])
        if problem is not None:
            problem = replace(problem, hides_fixes=not has_no_fixes(name))
            (slow if copy.is_being_read and times.was_ended else problems).append(problem)
    return tuple(dict.fromkeys((*slow, *problems)))[:MAX_PROBLEMS]


def has_no_fixes(repository: str) -> bool:
    """Return whether a repository certainly has no security fixes: sources and debugging symbols."""
    return _NO_FIXES_PATTERN.search(repository) is not None


def _build_problem(name: str, lines: Iterable[str]) -> RepositoryProblem:
    return build_repository_problem(name, lines, RPM_CAUSES, hides_fixes=not has_no_fixes(name))


def _join_lines(text: str) -> str:
    """Join the lines of which zypper and yum make one complaint."""
    text = text.replace(" error was\n", " error was: ")
    text = re.sub(r"^Error code: (.+)\nError message: ", r"\1: ", text, flags=re.MULTILINE)
    key = r"^(New repository or package signing key received:)\n(?:.*\n){1,4}? +Key Fingerprint: +(.+)$"
    return re.sub(key, r"\1 \2", text, flags=re.MULTILINE)


class _ComplaintReader:
    """Reads a package manager's lines one after the other, and assigns the complaints to repositories."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._complaints: dict[str, list[str]] = {}
        self._failed: dict[str, None] = {}
        self._name = ""

    def read(self, line: str) -> None:
        """Read the next line."""
        if _ADVICE_PATTERN.search(line) or _PROGRESS_PATTERN.search(line):
            return
        if _REGISTRATION_PATTERN.search(line):
            self.notes.append(line)
        elif _NOTHING_ENABLED_PATTERN.search(line):
            self._add("", [line], has_failed=True)
        elif ignored := _LIST_OF_IGNORED_PATTERN.match(line):
            for name in ignored[1].split(", "):
                self._add(name, [] if name in self._failed else [line], has_failed=True)
        elif end := _END_PATTERN.search(line):
            name = _get_name(end)
            self._add(name, [*self._complaints.pop("", []), line], has_failed=True)
            self._name = name if line.startswith("failure: ") else ""  # yum repeats its complaints after that line
        else:
            self._read_complaint(line)

    def _read_complaint(self, line: str) -> None:
        begin = _BEGIN_PATTERN.match(line)
        if begin:
            self._name = _get_name(begin)
        if _COMPLAINT_PATTERN.search(drop_repository_names(line)) or _CENTOS_PATTERN.search(line):
            is_final = _GIVEN_UP_PATTERN.match(line) if line.startswith(">>> ") else begin or not self._name
            self._add(self._name, [line], has_failed=bool(is_final))

    def _add(self, name: str, lines: Iterable[str], *, has_failed: bool) -> None:
        self._complaints.setdefault(name, []).extend(lines)
        if has_failed:
            self._failed[name] = None

    def list_failed(self) -> dict[str, list[str]]:
        """Return the repositories that can't be used, with the complaints about each."""
        return {name: self._complaints[name] for name in self._failed if self._complaints.get(name)}


def _get_name(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group)


DEFAULT_REPOSITORY_PRIORITY: Final = 99
"""The priority of a repository that has none of its own (dnf.conf(5), zypper(8)). Lower numbers come first."""


def parse_repository_priorities(text: str) -> Mapping[str, int]:
    """Read lines "REPOSITORY<tab>PRIORITY" of the repositories that have another priority than the default one."""
    rows = (line.rpartition("\t") for line in text.splitlines())
    return {name: number for name, _, digits in rows if (number := parse_natural(digits.strip())) is not None}
