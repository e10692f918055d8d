"""Why a package repository was not read, and the remedy where the words of package managers and curl are certain. Pure.

The words are those of dnf, yum, zypper and apt with LC_ALL=C; tests/data/repositories/README.md names their sources.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

from inventory.name_lists import format_count
from tasks.domain.compliance import MAX_ANSWER_AGE
from tasks.domain.errors import READ_LISTS_REMEDY, RepositoryError
from tasks.domain.model import RepositoryProblem
from tasks.domain.protocols.package_manager import REFRESH_TIMEOUT_SECONDS
from tasks.machines.managers.tool_errors import find_tool_error
from tasks.rules.redaction import redact_url

MAX_PROBLEMS: Final = 20
"""A machine may send any number of them. More than this are not kept."""
MAX_LINE_LENGTH: Final = 2_000
MAX_LINES: Final = 2_000
"""Of what a machine sends, only so much is read: a search takes longer than its text is long."""
_MAX_MESSAGE_LENGTH: Final = 300
_URL_PATTERN: Final = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,20}://\S+")
_BEHIND_URL: Final = "]'\">),.;:"  # marks of the sentence, not of the URL
_NAME_PATTERN: Final = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|\[[^\[\]|]{0,300}\|[^\]]{0,1000}\]|repository: \S+")
_UNPRINTABLE_PATTERN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SLOW_REMEDY: Final = "Find out why its server, or the proxy before it, is so slow, or use another mirror."
_WAITED_REMEDY: Final = "Correct what made the reading slow, and assess the machine again."
_PREFIX_PATTERN: Final = re.compile(r"^(?:\s|- |>>> |Error: |Warning: |\[\|\] )+")


class RepositoryCause(NamedTuple):
    """A cause that words tell for certain, and its remedy.

    Attributes:
        words: a regular expression.
        remedy: what to do; "" when that is not certain.
        in_names: whether the words may be part of a URL or of a name.
    """

    words: str
    remedy: str
    in_names: bool = False


_STATUS: Final = r"(?:Status code: |Error |error: |error code: |\b: |^|  )"
_KEY: Final = (
    "Compare the key's fingerprint with its publisher's, and import the key on the machine (rpm --import FILE, or "
    "apt's keyrings). fleetpatch accepts no new key by itself."
)
_CAUSES: Final = (
    RepositoryCause(
        r"SSL certificate problem|[Pp]eer'?s? [Cc]ertificate|[Cc]url error \(60\)|curl#60|certificate has exp"
        r"|[Cc]ertificate verif",
        "Set the machine's clock and update its CA certificates. If a proxy inspects TLS, the machine needs its CA. "
        "Otherwise the repository's owner must renew the certificate.",
    ),
    RepositoryCause(
        _STATUS + r"401\b(?! *[kMGTP]?B\b)|Login failed|Authentication required",
        "The repository asks for a login: correct the one that the machine has for it.",
    ),
    RepositoryCause(
        _STATUS + r"407\b(?! *[kMGTP]?B\b)", "The proxy asks for a login: correct the proxy's settings on the machine."
    ),
    RepositoryCause(
        _STATUS + r"429\b(?! *[kMGTP]?B\b)", "The server gets too many requests from there: try again later."
    ),
    RepositoryCause(
        r"Clearsigned file isn't valid|does the network require authentication|a web page answered in its place",
        "Something else answered in place of the repository, such as a proxy's page: look at the proxy's settings.",
    ),
    RepositoryCause(
        r"changed its +value from",
        "If its publisher has announced that: apt-get update --allow-releaseinfo-change, on the machine.",
    ),
    RepositoryCause(
        r"EXPKEYSIG|KEYEXPIRED", "The publisher's key has expired: get the renewed key from the publisher."
    ),
    RepositoryCause(r"NO_PUBKEY|NOKEY|Public key for \S+ is not|signing key rec|Signing key not found", _KEY),
    RepositoryCause(r"GPG signature is not available", ""),
    RepositoryCause(
        r"checksum doesn't match|does not match (?:checksum|metalink)|wrong checksum|Digest verif|Hash Sum mismatch",
        "The mirror or a proxy delivers old or damaged files. Clean the package manager's cache on the machine and "
        "read it again; if that does not help, use another mirror.",
    ),
    RepositoryCause(
        r"mirrorlist\.centos\.org|//mirror\.centos\.org",
        "CentOS Linux has ended: there are no updates for it. Move the machine to a maintained system; its "
        "last packages are on vault.centos.org.",
        in_names=True,
    ),
    RepositoryCause(
        r"[Cc]ould(?:n't| not) resolve|[Nn]ame resolution|Temporary failure resolving|curl#6\b|Something wicked",
        "Look at the machine's DNS and proxy settings, and at the repository's address.",
    ),
    RepositoryCause(
        r"[Tt]imeout|[Tt]imed out|too slow|Connection failed|[Cc]ould(?:n't| not) connect|Failed to connect|refused"
        r"|No route|unreachable|Cannot initiate the connection",
        "Let the machine reach the repository (route, firewall, proxy), or configure a mirror that it reaches.",
    ),
    RepositoryCause(
        _STATUS + r"404\b(?! *[kMGTP]?B\b)|not found on medium",
        "The address is wrong, or that release is no longer published there. Correct it, or disable the repository; if "
        "the mirror is just being updated, try again later.",
    ),
    RepositoryCause(
        _STATUS + r"5\d\d\b(?! *[kMGTP]?B\b)",
        "The repository's server has a fault. Try again later, or use another mirror.",
    ),
    RepositoryCause(
        r"is not valid yet|is expired|metadata expired|appears to be outdated|older than what",
        "Its mirror is no longer updated, or the machine's clock is wrong. Use another mirror, or set the clock.",
    ),
    RepositoryCause(
        r"SSL connect error|[Cc]url error \(?(?:35|56)\)?|curl#(?:35|56)|SSL routines|TLS handshake|gnutls", ""
    ),
    RepositoryCause(_STATUS + r"403\b(?! *[kMGTP]?B\b)|Permission to access", ""),
    RepositoryCause(
        r"GPG (?:signature|verification|error|key)|[PG]GP signature|[Ss]ignatures? (?:verification failed|could)"
        r"|is (?:not signed|unsigned|no longer signed)|signatures couldn't be verified|were invalid",
        "",
    ),
    RepositoryCause(
        r"Error building the cache|Failed to cache repo",
        "The machine's copy of the metadata is damaged, or its disk is full. Look at the disk (/var/cache/zypp), then "
        "run zypper clean --all on the machine and read it again.",
    ),
    RepositoryCause(r"type can't be determined|Can't provide|Damaged", ""),
    RepositoryCause(r"never read|were not read again|no cache for|not been cached|last read", READ_LISTS_REMEDY),
)
"""The first one whose words are found counts. Those without a remedy only tell which line says most."""
_OTHER_REMEDY: Final = (
    "No certain remedy is known. Read the repository on the machine by hand: its package manager says more."
)


def build_repository_problem(
    repository: str, lines: Iterable[str], causes: Sequence[RepositoryCause] = (), *, hides_fixes: bool = True
) -> RepositoryProblem:
    """Return what is wrong with a repository: the line that tells most, without credentials, and the remedy.

    Args:
        repository: its name; "" for all of them.
        lines: what the package manager said about it, in order; at least one.
        causes: those of a family of package managers, before the common ones.
        hides_fixes: whether the repository could have security fixes.
    """
    known_causes = (*causes, *_CAUSES)
    shortened_lines = tuple(line[:MAX_LINE_LENGTH] for line in islice(lines, MAX_LINES))
    ranks = {line: _rank(line, known_causes) for line in shortened_lines}
    best = min(shortened_lines, key=lambda line: ranks[line])
    rank = ranks[best]
    remedy = (known_causes[rank].remedy if rank < len(known_causes) else "") or _OTHER_REMEDY
    return RepositoryProblem(redact_complaint(repository)[:100], redact_complaint(best), remedy, hides_fixes)


def _rank(line: str, causes: Sequence[RepositoryCause]) -> int:
    text = drop_repository_names(line)
    ranks = (rank for rank, cause in enumerate(causes) if re.search(cause.words, line if cause.in_names else text))
    return next(ranks, len(causes))


def drop_repository_names(line: str) -> str:
    """Return a line without URLs and names, which may contain any words."""
    return _NAME_PATTERN.sub("", _replace_urls(line[:MAX_LINE_LENGTH], lambda _: ""))


def build_slow_problem(repository: str, *, has_begun: bool) -> RepositoryProblem:
    """Return the problem of a repository that was not read before the reading of all was ended.

    ``repository`` is "" when it is not known. ``has_begun``: it was just being read.
    """
    limit = f"the reading of the repositories was ended after {REFRESH_TIMEOUT_SECONDS} s"
    if not has_begun:
        return RepositoryProblem(redact_complaint(repository)[:100], f"it was not read: {limit}", _WAITED_REMEDY)
    return RepositoryProblem(
        redact_complaint(repository)[:100], f"it is too slow: {limit}, while it was read", _SLOW_REMEDY
    )


def find_old_copy_problem(repository: str, read_at: int, now: int) -> RepositoryProblem | None:
    """Return a problem if the machine's copy of a repository is too old to tell what is missing.

    ``repository`` is "" for all of them. Times are in seconds since 1970 by the machine's clock.
    """
    if now - read_at <= MAX_ANSWER_AGE.total_seconds():
        return None
    days = int((now - read_at) // 86_400)
    message = f"the machine's copy of it was last read {format_count(days, 'day')} ago"
    return replace(build_repository_problem(repository, [message]), is_of_refresh=False)


def redact_complaint(text: str) -> str:
    """Return a line for display: printable, not too long, and without logins and queries of URLs."""
    plain = _PREFIX_PATTERN.sub("", _UNPRINTABLE_PATTERN.sub(" ", text[:MAX_LINE_LENGTH])).strip()
    return _replace_urls(plain, redact_url)[:_MAX_MESSAGE_LENGTH]


def _replace_urls(text: str, replace_url: Callable[[str], str]) -> str:
    def replace_one(found: re.Match[str]) -> str:
        url = found[0].rstrip(_BEHIND_URL)
        return replace_url(url) + found[0][len(url) :]

    return _URL_PATTERN.sub(replace_one, text)


def build_repository_error(problems: Sequence[RepositoryProblem], text: str = "") -> RepositoryError:
    """Return the error for a machine that can use none of its repositories; its hint is the most frequent remedy.

    ``text`` is what the package manager said, for the message when no problem is known.
    """
    if not problems:
        lines = [find_tool_error(text) or "no repository can be read", *filter(str.strip, text.splitlines())]
        problems = (build_repository_problem("", lines),)
    remedies = [problem.remedy for problem in problems]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    message = "; ".join(dict.fromkeys(str(problem) for problem in problems[:3]))
    return RepositoryError(f"{message}{more}", hint=max(dict.fromkeys(remedies), key=remedies.count))
