"""Finds the repositories that dnf, yum or zypper could not read, in what they said. Pure.

dnf 4 and zypper name a repository before their complaints, and again after them. dnf 5 writes its progress line before
them; yum names it only after them.
"""

import re
from collections.abc import Iterable
from typing import Final

from tasks.managers.repository_problems import (
    MAX_LINE_LENGTH,
    MAX_LINES,
    MAX_PROBLEMS,
    build_repository_problem,
    is_complaint,
)
from tasks.model import RepositoryProblem

_MAX_CHARACTERS: Final = 200_000

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
_ADVICE_PATTERN: Final = re.compile(r"^\s+\d\. |^ One of the configured|URIs defined for this repository")


def find_repository_problems(text: str) -> tuple[RepositoryProblem, ...]:
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
    problems = [build_repository_problem(name, lines) for name, lines in reader.list_failed().items()]
    if problems:
        problems += [build_repository_problem("", [note]) for note in reader.notes]
    return tuple(dict.fromkeys(problems))[:MAX_PROBLEMS]


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
            self._end(_get_name(end), line)
        else:
            self._read_complaint(line)

    def _end(self, name: str, line: str) -> None:
        self._add(name, [*self._complaints.pop("", []), line], has_failed=True)
        self._name = name if line.startswith("failure: ") else ""  # yum repeats its complaints after that line

    def _read_complaint(self, line: str) -> None:
        begin = _BEGIN_PATTERN.match(line)
        if begin:
            self._name = _get_name(begin)
        if is_complaint(line):
            is_final = _GIVEN_UP_PATTERN.match(line) if line.startswith(">>> ") else begin or not self._name
            self._add(self._name, [line], has_failed=bool(is_final))

    def _add(self, name: str, lines: Iterable[str], *, has_failed: bool) -> None:
        self._complaints.setdefault(name, []).extend(lines)
        if has_failed:
            self._failed[name] = None

    def list_failed(self) -> dict[str, list[str]]:
        """Return the repositories that can't be used, with the complaints about each."""
        return {name: self._complaints[name] for name in self._failed if self._complaints.get(name)}


def _get_name(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group)
