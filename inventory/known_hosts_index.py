"""Index of a known_hosts file: finds the lines for an address without a scan of all lines.

Plain names are looked up. Patterns are tested one by one. A hashed name can only be compared with a given name, and
each comparison needs an HMAC, as in OpenSSH. The index hashes an address once for each salt and caches the result.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

CERT_AUTHORITY_MARKER = "@cert-authority"
REVOKED_MARKER = "@revoked"


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A public key as in known_hosts: its type, such as "ssh-ed25519", and its base64 blob."""

    type: str
    base64: str


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
        keys = (entry.key for _, entry in sorted(entries, key=lambda each: each[0]) if entry.marker == marker)
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
