"""Finds names in a machine's texts by their form: addresses, accounts, hosts of URLs, folders of users. Pure.

What identifies nobody stays: loopback, the accounts and groups of every system, the update servers of publishers. So
do versions, which may look like an IPv4 address: 10.0.20348.2700 is none (an octet is at most 255), and four small
numbers are none behind a word such as "version" or a comparison, or in a field that holds versions.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

Stand: TypeAlias = Callable[[str, str], str]
"""Returns what stands in place of a value: kind of the value, value."""

VERSION_FIELDS: Final = frozenset(
    {"available", "build", "framework", "installed", "powershell", "release", "title", "version"}
)
"""Fields of records in which four small numbers are a version. Drivers have theirs in the title."""

_EVERY_FOLDER: Final = frozenset({"administrator", "all users", "default", "default user", "public", "systemprofile"})
_EVERY_AUTHORITY: Final = frozenset({"authority", "builtin", "service", "apppool", "manager", "host"})
_PUBLISHERS: Final = (
    "microsoft.com", "windows.com", "windowsupdate.com", "aka.ms", "debian.org", "ubuntu.com", "fedoraproject.org",
    "centos.org", "rockylinux.org", "almalinux.org", "redhat.com", "suse.com", "opensuse.org", "oracle.com",
)  # fmt: skip
_UNIT_ENDINGS: Final = (
    "automount", "device", "mount", "path", "scope", "service", "slice", "socket", "target", "timer",
)  # fmt: skip

_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_SID: Final = re.compile(r"(?<![\w-])S-1-(?:5-21|12-1)(?:-\d{1,10}){3,5}(?![\w-])", re.IGNORECASE)
_MAIL: Final = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9][\w-]{0,62}\.){1,8}([A-Za-z]\w{1,62})(?![\w-])"
)
_URL_HOST: Final = re.compile(
    r"(?<=://)((?:[^\s/@:\"'<>]{1,200}(?::[^\s/@\"'<>]{0,200})?@)?)([A-Za-z0-9](?:[\w.-]{0,251}\w)?)"
)
_LABEL: Final = re.compile(r"(?<![\w-])[A-Za-z0-9][\w-]{0,62}(?=\.domain-\d)")
_UNC: Final = re.compile(r"(?<![\w:\\])(\\\\(?:\\\\)?)([A-Za-z0-9][\w.-]{0,252})(?=\\)")
_FOLDER: Final = re.compile(
    r"((?<![A-Za-z])[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/)|(?<![\w./-])/home/)"
    r"([^\\/:*?\"'<>|\r\n]{1,64}(?=[\\/])|[^\\/:*?\"'<>|\s,;)]{1,64})",
    re.IGNORECASE,
)
_OWNER: Final = re.compile(
    r"(\b(?:user|account|owner|login|on behalf of|(?:owned|started|requested) by|(?:runs?|running|logged on) as)"
    r"(?:\s{1,3}is|\s{1,3}name)?\s{0,3}[:=]?\s{1,3}[\"']?)"
    r"([A-Za-z0-9][\w.-]{0,62})(\\{1,2})([\w.$-]{1,64})",
    re.IGNORECASE,
)
_IPV6: Final = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f.]{0,40}:)[0-9A-Fa-f:]{2,39}(?:\d{1,3}(?:\.\d{1,3}){3})?(?:%\w{1,15})?(?![\w:])"
)
_IPV4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w|[-+~](?!(?:\d{1,3}\.){3}\d)\w)")
_BEFORE_VERSION: Final = re.compile(
    r"(?:(?:version|ver|v|build|release|revision|rev)[\"']?\s{0,2}[.:=]?\s{0,2}[\"'(]?"
    r"|(?:[<>]=|<<|>>|[\s(]=)\s{0,2}(?:\d{1,3}:)?|(?:^|[\s(])\d{1,3}:)$",  # of a dependency; an epoch
    re.IGNORECASE,
)


def replace_patterns(text: str, stand: Stand, *, has_versions: bool) -> str:
    """Return a text with what looks like a name replaced.

    ``stand`` gives what stands in place of a value. ``has_versions``: the text is of a field that holds versions
    (VERSION_FIELDS).
    """
    for pattern, replace in _list_replacements(stand, has_versions=has_versions):
        text = pattern.sub(replace, text)
    return text


def _list_replacements(
    stand: Stand, *, has_versions: bool
) -> Iterator[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    yield _MAIL, lambda found: found[0] if found[1].lower() in _UNIT_ENDINGS else stand("mail", found[0])
    yield _LABEL, lambda found: stand("host", found[0])
    yield _URL_HOST, lambda found: f"{'***@' if found[1] else ''}{_replace_host(found[2], stand)}"
    yield _UNC, lambda found: f"{found[1]}{_replace_host(found[2], stand)}"
    yield _SID, lambda found: stand("sid", found[0])
    yield _MAC, lambda found: stand("hardware", found[0])
    yield _FOLDER, lambda found: found[1] + (found[2] if found[2].lower() in _EVERY_FOLDER else stand("user", found[2]))
    yield _OWNER, lambda found: _replace_owner(found, stand)
    yield _IPV6, lambda found: _replace_ipv6(found[0], stand)
    if not has_versions:
        yield _IPV4, lambda found: _replace_ipv4(found, stand)


def _replace_host(host: str, stand: Stand) -> str:
    lower = host.lower()
    if lower == "localhost" or any(lower == name or lower.endswith(f".{name}") for name in _PUBLISHERS):
        return host
    if is_address(host):
        return host if is_own_address(host) else stand("address", host)
    return stand("host", host)


def _replace_owner(found: re.Match[str], stand: Stand) -> str:
    if found[2].lower() in _EVERY_AUTHORITY:
        return found[0]
    return f"{found[1]}{stand('domain', found[2])}{found[3]}{stand('user', found[4])}"


def _replace_ipv6(value: str, stand: Stand) -> str:
    address = value.partition("%")[0]
    if not any(character.isdigit() for character in address) or not is_address(address) or is_own_address(address):
        return value
    return stand("address", value)


def _replace_ipv4(found: re.Match[str], stand: Stand) -> str:
    value = found[0]
    if not is_address(value) or is_own_address(value):
        return value
    begin = max(0, found.start() - 20)
    return value if _BEFORE_VERSION.search(found.string[begin : found.start()]) else stand("address", value)


def is_address(value: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def is_own_address(value: str) -> bool:
    """Return whether an IP address is one that every machine has."""
    address = ipaddress.ip_address(value)
    return address.is_loopback or address.is_unspecified or value == "255.255.255.255" or value.startswith("0.")
