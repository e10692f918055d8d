"""Replaces names and secrets in a recording of a machine's answers, before somebody else may read it. Pure.

Known values, of the inventory and of what the machine says of itself, are replaced wherever they stand, in any case and
inside longer words; others are found by their form (addresses, accounts, hosts of URLs, folders of users), and secrets
as everywhere (redaction.py). The same value has the same stand-in in the whole document: host-1, user-2. Keys, types
and numbers stay. Replacing twice changes nothing.

What identifies nobody stays: loopback, the accounts and groups of every system, the update servers of publishers. So
do versions, which may look like an IPv4 address: 10.0.20348.2700 is none (an octet is at most 255), and four small
numbers are none behind a word such as "version" or a comparison, or in a field that holds versions.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.rules.redaction import redact_text

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


KINDS: Final = ("host", "domain", "user", "address", "mail", "sid", "hardware", "serial", "machineid")
"""The kinds of values that are replaced, as in their stand-ins."""
_NAME_KINDS: Final = frozenset({"host", "domain", "user"})
STAND_IN: Final = re.compile(rf"(?:{'|'.join(KINDS)})-\d+")
_ONLY_STAND_INS: Final = re.compile(rf"{STAND_IN.pattern}(?:[.-]?{STAND_IN.pattern})*")
_MIN_INSIDE_LENGTH: Final = 4  # a shorter value is replaced as a whole word only
_MIN_LENGTH: Final = 2
_MIN_DIGITS: Final = 6  # a shorter number may be a build or a KB number
_ROUNDS: Final = 20  # two are usual: a stand-in may make something beside it recognizable
# fmt: off
_COMMON_WORDS: Final = frozenset({
    "0", "account", "admin", "administrator", "administrators", "alma", "client", "com", "computer",
    "core", "data", "datacenter", "debian", "default", "default string", "domain", "false", "fedora",
    "file", "files", "fleetpatch", "guest", "home", "host", "hotpatch", "internal", "lan", "linux",
    "local", "localdomain", "localhost", "machine", "microsoft", "name", "net", "none", "not specified",
    "nt authority", "null", "oracle", "org", "patch", "redhat", "rocky", "root", "security", "server",
    "service", "services", "standard", "suse", "system", "system serial number", "test",
    "to be filled by o.e.m.", "true", "ubuntu", "unknown", "update", "updates", "user", "users", "windows",
    "windows user", "workgroup", "workstation",
})
# fmt: on
"""In small letters: names that identify nobody, and words that the answers of any machine have."""


@dataclass(frozen=True, slots=True)
class KnownName:
    """A value to replace. Its kind is one of KINDS."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """A document without names."""

    document: object  # JSON data as it was, with other texts
    counts: Mapping[str, int]  # kind -> how many different values of it were replaced
    kept: tuple[str, ...]  # known names that were not replaced, because they are common words or too short


def replace_names(document: object, known: Sequence[KnownName]) -> Replaced:
    """Return JSON data without secrets and names.

    What is found by its form in one place, and looks like the name of a machine, is replaced in all places.
    """
    names = [name for name in dict.fromkeys(known) if is_replaceable(name.value)]
    first = _Replacer(names)
    first.replace(document)
    replacer = _Replacer([*names, *first.list_learned()])
    result = replacer.replace(document)
    named = (name.value for name in known if name.kind in _NAME_KINDS and not is_address(name.value))
    replaceable_values = dict.fromkeys(value for value in named if value.strip() and not is_replaceable(value))
    return Replaced(result, replacer.count(), tuple(replaceable_values))


def is_replaceable(value: str) -> bool:
    """Return whether a known value is replaced: it is neither a common word, nor a stand-in, nor too short."""
    folded = value.casefold()
    if is_address(value):
        return not is_own_address(value)
    if folded in _COMMON_WORDS or STAND_IN.fullmatch(folded) or len(value) < _MIN_LENGTH:
        return False
    return any(character.isalpha() for character in value) or (value.isdigit() and len(value) >= _MIN_DIGITS)


class _Replacer:
    def __init__(self, known: Sequence[KnownName]) -> None:
        self._stand_ins: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._learned: list[KnownName] = []
        self._used: set[str] = set()
        kinds = {form.casefold(): (name.kind, name.value) for name in known for form in _list_forms(name.value)}
        for name in known:  # in their order, whatever is found first
            self._find_stand_in(name.kind, name.value)
        self._known = {form: self._find_stand_in(kind, value) for form, (kind, value) in kinds.items()}
        forms = sorted({form for name in known for form in _list_forms(name.value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_build_pattern, forms)), re.IGNORECASE) if forms else None
        self._learned.clear()

    def replace(self, value: object, field: str = "") -> object:
        """Return a value with its texts replaced. The kind of a record is a word of the script."""
        if isinstance(value, str):
            return value if field == "kind" else self._replace_text(value, has_versions=field in VERSION_FIELDS)
        if isinstance(value, Mapping):
            return {key: self.replace(part, str(key)) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.replace(part, field) for part in value]
        return value

    def count(self) -> dict[str, int]:
        """Return how many values of each kind were replaced."""
        kinds = [stand_in.rpartition("-")[0] for stand_in in self._used]
        return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}

    def list_learned(self) -> list[KnownName]:
        """Return the names that were found by their form, and that look like names everywhere."""
        return [
            name
            for name in self._learned
            if is_replaceable(name.value)
            and len(name.value) >= _MIN_INSIDE_LENGTH
            and (is_address(name.value) or not name.value.isalpha())
            and not STAND_IN.search(name.value)
        ]

    def _replace_text(self, text: str, *, has_versions: bool) -> str:
        for _ in range(_ROUNDS):
            clean = self._replace_known(redact_text(text))
            clean = replace_patterns(clean, self._find_stand_in, has_versions=has_versions)
            if clean == text:
                break
            text = clean
        return text

    def _replace_known(self, text: str) -> str:
        """Replace known values between stand-ins."""
        if self._pattern is None:
            return text
        pieces = re.split(rf"({STAND_IN.pattern})", text)
        pieces[::2] = [self._pattern.sub(self._put, piece) for piece in pieces[::2]]
        return "".join(pieces)

    def _put(self, found: re.Match[str]) -> str:
        stand_in = self._known.get(found[0].casefold()) or self._known[found[0].lower()]
        self._used.add(stand_in)
        after = found.string[found.end() : found.end() + 1]
        return f"{stand_in}-" if after.isdigit() else stand_in  # "srv" in "srv01" is host-1-01, and not host-101

    def _find_stand_in(self, kind: str, value: str) -> str:
        """Return what stands in place of a value, always the same. What has only stand-ins stays."""
        if _ONLY_STAND_INS.fullmatch(value):
            return value
        key = value.casefold()
        if key not in self._stand_ins:
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            self._stand_ins[key] = f"{kind}-{self._numbers[kind]}"
            self._learned.append(KnownName(kind, value))
        self._used.add(self._stand_ins[key])
        return self._stand_ins[key]


def _list_forms(value: str) -> tuple[str, ...]:
    """Return the spellings of a value: other cases, and the name by which NetBIOS knows a longer one."""
    short = value[:15] if len(value) > 15 and not is_address(value) and "." not in value else value
    return tuple(dict.fromkeys(form for name in (value, short) for form in (name, name.upper(), name.casefold())))


def _build_pattern(value: str) -> str:
    escaped = re.escape(value)
    if is_address(value):
        return (
            rf"(?<![\w:])(?<![\w]\.){escaped}(?!\w|[.:]\w)"
            if ":" in value
            else rf"(?<!\d)(?<!\d\.){escaped}(?!\d|\.\d)"
        )
    if len(value) < _MIN_INSIDE_LENGTH or value.isdigit():
        return rf"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])"
    return escaped


_ID_FIELDS: Final = ("machine_id", "installation", "boot_id")
"""Fields of the record "kernel" by which others may know the machine again."""


def list_known_names(machine: Machine, records: Iterable[Mapping[str, object]]) -> tuple[KnownName, ...]:
    """Return the names to replace in a recording; the machine's name in the inventory is the first.

    Of all ``records`` that the machine has answered, "name" and "kernel" count.
    """
    hosts = (machine.name, machine.address, machine.winrm.kerberos_hostname or "")
    names = [name for host in hosts for name in _split_host(host)]
    names += _split_user(machine.user or "")
    names += [KnownName("hardware", machine.wake.mac)] if machine.wake is not None else []
    names += _list_own_names(records)
    return tuple(dict.fromkeys(KnownName(name.kind, name.value.strip()) for name in names if name.value.strip()))


def _list_own_names(records: Iterable[Mapping[str, object]]) -> Iterator[KnownName]:
    for record in records:
        if record.get("kind") == "name":
            of, value = str(record.get("of")), str(record.get("value"))
            if of == "host":
                yield from _split_host(value)
            elif of == "user":
                yield from _split_user(value)
            elif of in KINDS:
                yield KnownName(of, value)
        elif record.get("kind") == "kernel":
            yield from (KnownName("machineid", str(record[name])) for name in _ID_FIELDS if record.get(name))


def _split_host(host: str) -> Iterator[KnownName]:
    """Return a host name and its domain. Each is also replaced by itself."""
    if is_address(host):
        yield KnownName("address", host)
        return
    label, _, domain = host.strip(".").partition(".")
    yield KnownName("host", label)
    if domain:
        yield KnownName("domain", domain)


def _split_user(user: str) -> Iterator[KnownName]:
    r"""Return the parts of ``DOMAIN\user``, ``user@domain`` or ``user``."""
    domain, backslash, name = user.rpartition("\\")
    if not backslash:
        name, _, domain = user.partition("@")
    yield KnownName("user", name)
    if domain:
        yield KnownName("domain", domain)
