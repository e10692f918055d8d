"""Why a package repository can't be used, by the words of package managers and of curl, and the remedy. Pure.

The words are those of dnf, yum, zypper and apt with LC_ALL=C; tests/data/repositories/README.md names their sources.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

from tasks.errors import RepositoryError
from tasks.model import PackageState, RepositoryProblem
from tasks.rules.url_redaction import redact_url

MAX_PROBLEMS: Final = 20
"""A machine may send any number of them. More than this are not kept."""
MAX_LINE_LENGTH: Final = 2_000
MAX_LINES: Final = 2_000
"""Of what a machine sends, only so much is read: a search takes longer than its text is long."""
_MAX_MESSAGE_LENGTH: Final = 300
_URL_PATTERN: Final = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,20}://\S+")
_BEHIND_URL: Final = "]'\">),.;:"  # marks of the sentence, not of the URL
_NAME_PATTERN: Final = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|\[[^\[\]|]{0,300}\|[^\]]{0,1000}\]|repository: \S+")
_UNPRINTABLE_PATTERN: Final = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")
_PREFIX_PATTERN: Final = re.compile(r"^(?:\s|- |>>> |Error: |Warning: |\[\|\] )+")

_REGISTER = (
    "Register the machine and give it a subscription (subscription-manager register; SUSEConnect), or configure "
    "repositories that need none."
)
_RENEW = (
    "Look at the machine's subscription (subscription-manager status; SUSEConnect --status) and renew its certificate "
    "or password (subscription-manager refresh). On a cloud image, update the provider's client package from the "
    "provider's own repository."
)
_KEY = (
    "Compare the key's fingerprint with its publisher's, and import the key on the machine (rpm --import FILE, or "
    "apt's keyrings). fleetpatch accepts no new key by itself."
)


class _Cause(NamedTuple):
    """A cause, and the words that tell it: the first cause of _CAUSES whose words are found counts."""

    words: re.Pattern[str]
    remedy: str
    in_names: bool = False  # whether the words may be part of a URL or of a name


def _cause(words: str, remedy: str, *, in_names: bool = False) -> _Cause:
    return _Cause(re.compile(words), remedy, in_names)


_CAUSES: Final = (
    _cause(
        r"not registered|not receiving updates|no repositories available through subscriptions|has been deleted"
        r"|index file for service",
        _REGISTER,
    ),
    _cause(
        r"local (?:SSL|client) certificate|[Cc]url error \(58\)|curl#58|X\.509 key or certificate"
        r"|PEM client certificate|alert (?:bad|unknown|expired|revoked|certificate)|certificate required",
        _RENEW,
    ),
    _cause(r"(?:rhui|cdn\.redhat\.com|susecloud).*(?:certificate|40[13])", _RENEW, in_names=True),
    _cause(
        r"SSL certificate problem|[Pp]eer'?s? [Cc]ertificate|SSL peer|[Cc]url error \(60\)|curl#60|certificate has exp"
        r"|[Cc]ertificate (?:issuer|verif)",
        "Set the machine's clock and update its CA certificates. If a proxy inspects TLS, the machine needs its CA. "
        "Otherwise the repository's owner must renew the certificate.",
    ),
    _cause(
        r"SSL connect error|[Cc]url error \(?(?:35|56)\)?|curl#(?:35|56)|SSL routines|TLS handshake|gnutls",
        "Look at the proxy or firewall between the machine and the repository, and at the TLS versions allowed.",
    ),
    _cause(
        r"GPG (?:signature|verification|error|key)|[PG]GP signature|[Ss]ignatures? (?:verification failed|could)|NOKEY"
        r"|NO_PUBKEY|EXPKEYSIG|Public key for \S+ is not|is (?:not signed|unsigned|no longer signed)|signing key rec"
        r"|signatures couldn't be verified|were invalid",
        _KEY,
    ),
    _cause(
        r"checksum doesn't match|does not match (?:checksum|metalink)|wrong checksum|Digest verif|Hash Sum mismatch",
        "The mirror or a proxy delivers old or damaged files. Clean the package manager's cache on the machine and "
        "read it again; if that does not help, use another mirror.",
    ),
    _cause(
        r"mirrorlist\.centos\.org|//mirror\.centos\.org|No URLs in mirrorlist",
        "CentOS Linux has ended: there are no updates for it. Move the machine to a maintained system; its "
        "last packages are on vault.centos.org.",
        in_names=True,
    ),
    _cause(
        r"Status code: 40[137]|Error 40[137]\b|error: 40[137]\b|error code: 40[137]\b|: 40[137]\b|Permission to access"
        r"|Login failed|Authentication required|  40[137] (?! *[kMGTP]?B\b)",
        "The repository refuses the machine. " + _RENEW + " For a repository or proxy with a login, correct the login.",
    ),
    _cause(
        r"[Cc]ould(?:n't| not) resolve|[Nn]ame resolution|Temporary failure resolving|curl#6\b|Something wicked",
        "Look at the machine's DNS and proxy settings, and at the repository's address.",
    ),
    _cause(
        r"[Tt]imeout|[Tt]imed out|too slow|Connection failed|[Cc]ould(?:n't| not) connect|Failed to connect|refused"
        r"|No route|unreachable|Cannot initiate the connection",
        "Let the machine reach the repository (route, firewall, proxy), or configure a mirror that it reaches.",
    ),
    _cause(
        r"Status code: 404|Error 404|: 404\b|404 +Not Found|not found on medium|type can't be determined"
        r"|does not have a Release file|Valid metadata not found",
        "The address is wrong, or that release is no longer published there. Correct it, or disable the repository; if "
        "the mirror is just being updated, try again later.",
    ),
    _cause(
        r"Status code: 5\d\d|Error 5\d\d\b|: 5\d\d\b|  5\d\d (?! *[kMGTP]?B\b)",
        "The repository's server has a fault. Try again later, or use another mirror.",
    ),
    _cause(
        r"metadata expired|older than what|Release file .*expired|is expired|is not valid (?:yet|any)|Valid-Until",
        "Its mirror is no longer updated, or the machine's clock is wrong. Use another mirror, or set the clock.",
    ),
    _cause(
        r"Error building the cache|Failed to cache repo",
        "The machine's copy of the metadata is damaged, or its disk is full. Look at the disk (/var/cache/zypp), then "
        "run zypper clean --all on the machine and read it again.",
    ),
    _cause(
        r"no cache for|not been cached|missing metadata",
        "Its metadata were never read on the machine: assess it with a refresh.",
    ),
    _cause(
        r"[Nn]o enabled repo|no repositories|No repositories defined",
        "Enable or configure repositories on the machine. " + _REGISTER,
    ),
    _cause(
        r"Cannot (?:download|prepare)|[Nn]o more mirrors|[Mm]irrors were (?:already )?tried|Usable URL not found"
        r"|baseurl|Can't provide|Failed to (?:fetch|download|retrieve)|is invalid|Damaged",
        "Look at the repository's address, and whether the machine reaches it (network, proxy, DNS).",
    ),
)
_OTHER_REMEDY: Final = "Correct or disable that repository on the machine."


def build_repository_problem(repository: str, lines: Iterable[str]) -> RepositoryProblem:
    """Return what is wrong with a repository: the line that tells most, without credentials, and the remedy.

    Args:
        repository: its name; "" for all of them.
        lines: what the package manager said about it, in order; at least one.
    """
    said = tuple(line[:MAX_LINE_LENGTH] for line in islice(lines, MAX_LINES))
    ranks = {line: _find_cause(line) for line in said}
    best = min(said, key=lambda line: ranks[line])
    rank = ranks[best]
    remedy = _CAUSES[rank].remedy if rank < len(_CAUSES) else _OTHER_REMEDY
    return RepositoryProblem(redact_text(repository)[:100], redact_text(best), remedy)


def is_complaint(line: str) -> bool:
    """Return whether a line names one of the known causes."""
    return _find_cause(line) < len(_CAUSES)


def _find_cause(line: str) -> int:
    line = line[:MAX_LINE_LENGTH]
    words = _NAME_PATTERN.sub("", _replace_urls(line, lambda _: ""))
    ranks = (rank for rank, each in enumerate(_CAUSES) if each.words.search(line if each.in_names else words))
    return next(ranks, len(_CAUSES))


def redact_text(text: str) -> str:
    """Return a line for display: printable, not too long, and without logins and queries of URLs."""
    plain = _PREFIX_PATTERN.sub("", _UNPRINTABLE_PATTERN.sub(" ", text[:MAX_LINE_LENGTH])).strip()
    return _replace_urls(plain, redact_url)[:_MAX_MESSAGE_LENGTH]


def _replace_urls(text: str, replace_url: Callable[[str], str]) -> str:
    def replace_one(found: re.Match[str]) -> str:
        url = found[0].rstrip(_BEHIND_URL)
        return replace_url(url) + found[0][len(url) :]

    return _URL_PATTERN.sub(replace_one, text)


def with_earlier_warnings(state: PackageState, earlier: PackageState) -> PackageState:
    """Return a package state that was read without a refresh, with what the read before it told of repositories."""
    return replace(
        state,
        warnings=tuple(dict.fromkeys((*earlier.warnings, *state.warnings))),
        repository_problems=tuple(dict.fromkeys((*earlier.repository_problems, *state.repository_problems))),
    )


def build_repository_error(problems: Sequence[RepositoryProblem], text: str = "") -> RepositoryError:
    """Return the error for a machine that can use none of its repositories; its hint is the most frequent remedy.

    Args:
        problems: what is known of them; may be empty.
        text: what the package manager said, for the message when nothing is known.
    """
    if not problems:
        lines = [line for line in text.splitlines() if line.strip()]
        problems = (build_repository_problem("", lines or ["no repository can be read"]),)
    remedies = [problem.remedy for problem in problems]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    words = "; ".join(dict.fromkeys(str(problem) for problem in problems[:3]))
    return RepositoryError(f"{words}{more}", hint=max(dict.fromkeys(remedies), key=remedies.count))
