"""Replaces names and secrets in what a machine has answered, before somebody else may read it. Pure.

Known values, of the inventory and of what the machine says of itself, are replaced wherever they stand, in any case and
inside longer words; others are found by their form (patterns.py), and secrets as everywhere (redaction.py). The same
value has the same stand-in in the whole document: host-1, user-2. Keys, types and numbers stay. Replacing twice changes
nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inventory.machine import Machine
from tasks.rules.recording.patterns import VERSION_FIELDS, is_address, is_own_address, replace_patterns
from tasks.rules.redaction import redact_text

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
    """A document without names.

    Attributes:
        document: JSON data as it was, with other texts.
        counts: kind -> how many different values of it were replaced.
        kept: known names that were not replaced, because they are common words or too short.
    """

    document: object
    counts: Mapping[str, int]
    kept: tuple[str, ...]


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
            return {key: self.replace(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.replace(item, field) for item in value]
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
    names = (*_list_inventory_names(machine), *_list_own_names(records))
    return tuple(dict.fromkeys(KnownName(name.kind, name.value.strip()) for name in names if name.value.strip()))


def _list_inventory_names(machine: Machine) -> Iterator[KnownName]:
    for host in (machine.name, machine.address, machine.winrm.kerberos_hostname or ""):
        yield from _split_host(host)
    yield from _split_user(machine.user or "")
    if machine.wake is not None:
        yield KnownName("hardware", machine.wake.mac)


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
