"""Parses OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Plain text only.

It reads names with ``*``, ``?`` and ``!``, ``[host]:port``, hashed names (``|1|salt|hash``), ``@cert-authority``,
``@revoked`` and comments. Where it differs from OpenSSH, it is stricter:

* An invalid line trusts no key. It stays in the file, is listed in ``invalid_lines`` and is otherwise ignored.
  An invalid ``@revoked`` line is an error, because without it fleetpatch would trust a revoked key.
* A revoked key is revoked for every host, whatever names are on the line.
* A key that is pinned for ``host`` does not count for ``[host]:2222``. (OpenSSH uses it as a fallback.)
* A host with a pinned key learns no other key. Otherwise a key of another type would bypass the pin.

Lines for an address are found without a scan of all lines: plain names are looked up, patterns are tested one by one. A
hashed name can only be compared with a given name, and each comparison needs an HMAC, as in OpenSSH. The index hashes
an address once for each salt and caches the result.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from inventory.data_class import dataclass
from inventory.errors import InventoryError

DEFAULT_SSH_PORT = 22
CERT_AUTHORITY_MARKER = "@cert-authority"
REVOKED_MARKER = "@revoked"
_MARKERS = frozenset({CERT_AUTHORITY_MARKER, REVOKED_MARKER})
_KEY_TYPE_PATTERN = re.compile(r"[A-Za-z0-9@._-]+")


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A public key as in known_hosts: its type, such as "ssh-ed25519", and its base64 blob."""

    type: str
    base64: str

    @classmethod
    def from_blob(cls, blob: bytes) -> "PinnedKey":
        """Return the key, or the certificate, that a host showed."""
        size = int.from_bytes(blob[:4], "big")
        return cls(blob[4 : 4 + size].decode("ascii", "replace"), base64.b64encode(blob).decode("ascii"))

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ssh-keygen -l shows it: "SHA256:" and base64 without padding.

        Raises:
            InventoryError: the blob is no valid base64.
        """
        digest = hashlib.sha256(_decode_key(self.base64)).digest()
        return f"SHA256:{binascii.b2a_base64(digest, newline=False).decode().rstrip('=')}"


@dataclass(frozen=True, slots=True)
class KnownHostsEntry:
    """A parsed line: its marker or "", its names as written, and its key."""

    marker: str
    names: str
    key: PinnedKey


_NumberedEntry = tuple[int, KnownHostsEntry]


class KnownHostsIndex:
    """The entries of one file, in order. Entries are only added. A changed file needs a new index."""

    def __init__(self, entries: Iterable[KnownHostsEntry] = ()) -> None:
        self._entry_count = 0
        self._entries_by_name: dict[str, list[_NumberedEntry]] = {}
        self._pattern_entries: list[tuple[_NumberedEntry, list[tuple[bool, re.Pattern[str]]]]] = []
        self._hashed_entries: list[tuple[_NumberedEntry, bytes, bytes]] = []
        self._revoked_keys: set[PinnedKey] = set()
        self._hashed_matches: dict[str, tuple[_NumberedEntry, ...]] = {}
        for entry in entries:
            self._add_entry(entry)

    def add_host(self, name: str, key: PinnedKey) -> None:
        """Add a line with one plain name at the end."""
        self._add_entry(KnownHostsEntry("", name, key))

    def is_revoked(self, key: PinnedKey) -> bool:
        """Return whether a line revokes the key."""
        return key in self._revoked_keys

    def find_keys(self, marker: str, address: str) -> tuple[PinnedKey, ...]:
        """Return the keys of lines with this marker that match the address, in file order, without revoked keys."""
        entries = [*self._entries_by_name.get(address, ()), *self._find_hashed_entries(address)]
        entries += [numbered for numbered, patterns in self._pattern_entries if _matches_patterns(patterns, address)]
        keys = (entry.key for _, entry in sorted(entries, key=lambda numbered: numbered[0]) if entry.marker == marker)
        return tuple(dict.fromkeys(key for key in keys if key not in self._revoked_keys))

    def _find_hashed_entries(self, address: str) -> tuple[_NumberedEntry, ...]:
        if not self._hashed_entries:
            return ()
        cached_entries = self._hashed_matches.get(address)
        if cached_entries is None:
            raw = address.encode()
            cached_entries = tuple(
                numbered
                for numbered, salt, digest in self._hashed_entries
                if hmac.compare_digest(hmac.digest(salt, raw, "sha1"), digest)
            )
            self._hashed_matches[address] = (
                cached_entries  # later lines have only plain names, so the cache stays valid
            )
        return cached_entries

    def _add_entry(self, entry: KnownHostsEntry) -> None:
        numbered = (self._entry_count, entry)
        self._entry_count += 1
        if entry.marker == REVOKED_MARKER:
            self._revoked_keys.add(entry.key)
            return
        if entry.names.startswith("|1|"):
            _, _, salt, digest = entry.names.split("|")
            self._hashed_entries.append((numbered, base64.b64decode(salt), base64.b64decode(digest)))
            return
        names = entry.names.lower().split(",")
        if any(set(name) & set("*?!") for name in names):
            patterns = [(name.startswith("!"), _compile_pattern(name.removeprefix("!"))) for name in names]
            self._pattern_entries.append((numbered, patterns))
            return
        for name in dict.fromkeys(names):
            self._entries_by_name.setdefault(name, []).append(numbered)


def _matches_patterns(patterns: list[tuple[bool, re.Pattern[str]]], address: str) -> bool:
    matched = False
    for is_negated, pattern in patterns:
        if pattern.fullmatch(address):
            if is_negated:
                return False
            matched = True
    return matched


def _compile_pattern(pattern: str) -> re.Pattern[str]:
    # In known_hosts only * and ? are special; the brackets of [host]:port are not.
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in collapsed))


def render_known_hosts_name(host: str, port: int = DEFAULT_SSH_PORT) -> str:
    """Return the name of an address in known_hosts: ``host``, or ``[host]:port`` for a port other than 22."""
    host = host.lower()
    return host if port == DEFAULT_SSH_PORT else f"[{host}]:{port}"


def parse_known_hosts(
    path: Path, text: str, parsed_lines: Mapping[str, KnownHostsEntry | str] = MappingProxyType({})
) -> tuple[tuple[KnownHostsEntry, ...], dict[int, str], dict[str, KnownHostsEntry | str]]:
    """Return the entries of a file, why lines are invalid by their numbers, and all lines as they were parsed.

    ``path``: the file, for errors.
    ``parsed_lines``: lines that were parsed before.

    Raises:
        InventoryError: a @revoked line is invalid.
    """
    entries: list[KnownHostsEntry] = []
    faults: dict[int, str] = {}
    lines: dict[str, KnownHostsEntry | str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        entry = lines[line] = parsed_lines.get(line) or _parse_entry(fields)
        if isinstance(entry, KnownHostsEntry):
            entries.append(entry)
        elif fields[0].lower().startswith("@revoked"):
            raise InventoryError(
                f"this @revoked line can't be read ({entry}), so the key it revokes would stay trusted",
                file=path,
                line=number,
                hint="Write it as: @revoked * KEY-TYPE BASE64",
            )
        else:
            faults[number] = entry
    return tuple(entries), faults, lines


def _parse_entry(fields: list[str]) -> KnownHostsEntry | str:
    """Return the entry of a line, or the reason why the line is invalid."""
    marker = ""
    if fields[0].startswith("@"):
        marker, fields = fields[0], fields[1:]
        if marker not in _MARKERS:
            return f"unknown marker {marker!r}"
    if len(fields) < 3:
        return "a line has names, a key type and a key in base64"
    names, key_type, blob = fields[:3]
    wrong = _describe_invalid_names(names) or describe_invalid_key(key_type, blob)
    return wrong or KnownHostsEntry(marker, names, PinnedKey(key_type, blob))


def _describe_invalid_names(names: str) -> str:
    if not names.startswith("|"):
        return "" if all(name.removeprefix("!") for name in names.split(",")) else "an empty host name"
    parts = names.split("|")
    try:
        ok = len(parts) == 4 and parts[1] == "1" and len(base64.b64decode(parts[3], validate=True)) == 20
        base64.b64decode(parts[2] if ok else "", validate=True)
    except (binascii.Error, ValueError):
        ok = False
    return "" if ok else "a hashed name is |1|SALT|HASH, in base64"


def describe_invalid_key(key_type: str, text: str) -> str:
    """Return why a key can't be pinned, or ""."""
    if not _KEY_TYPE_PATTERN.fullmatch(key_type):
        return "this is no key type"
    try:
        blob = _decode_key(text)
    except InventoryError:
        return "the key is no valid base64"
    size = int.from_bytes(blob[:4], "big")
    named = blob[4 : 4 + size]
    if len(blob) <= 4 + size or named != key_type.encode("ascii", "replace"):
        return f"the key is not of type {key_type}"
    return ""


def _decode_key(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InventoryError(
            "a host key is no valid base64", hint="Copy the key whole, from ssh-keyscan or the machine's .pub file."
        ) from error
