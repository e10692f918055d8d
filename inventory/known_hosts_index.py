"""Finds the lines of a known_hosts file that name an address, without looking at all of them.

A plain name is looked up. Patterns are tried one by one. A hashed name says nothing of itself but whether it is a given
one, so each takes an HMAC, as in OpenSSH; an address is hashed with each line's salt once, and the answer kept.
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
    """A public key as known_hosts has it: "ssh-ed25519" and the like, and its blob in base64."""

    type: str
    base64: str


@dataclass(frozen=True, slots=True)
class KnownHostsEntry:
    """A line that was understood: its marker or "", its names as they stand there, and its key."""

    marker: str
    names: str
    key: PinnedKey


_NumberedEntry = tuple[int, KnownHostsEntry]


class KnownHostsIndex:
    """The entries of one file, in its order. Entries are added only; another file's content takes another index."""

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
        """Add the line of one plain name at the end."""
        self._add_entry(KnownHostsEntry("", name, key))

    def is_revoked(self, key: PinnedKey) -> bool:
        """Return whether a line revokes the key."""
        return key in self._revoked_keys

    def find_keys(self, marker: str, address: str) -> tuple[PinnedKey, ...]:
        """Return the unrevoked keys of lines with that marker that name the address, in the order of the file."""
        found = [*self._entries_by_name.get(address, ()), *self._find_hashed_entries(address)]
        found += [numbered for numbered, patterns in self._pattern_entries if _matches_patterns(patterns, address)]
        keys = (entry.key for _, entry in sorted(found, key=lambda each: each[0]) if entry.marker == marker)
        return tuple(dict.fromkeys(key for key in keys if key not in self._revoked_keys))

    def _find_hashed_entries(self, address: str) -> tuple[_NumberedEntry, ...]:
        if not self._hashed_entries:
            return ()
        known = self._hashed_matches.get(address)
        if known is None:
            raw = address.encode()
            known = tuple(
                numbered
                for numbered, salt, digest in self._hashed_entries
                if hmac.compare_digest(hmac.digest(salt, raw, "sha1"), digest)
            )
            self._hashed_matches[address] = known  # plain lines only are added later, so it stays true
        return known

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
    # Only * and ? are special in known_hosts; the brackets of [host]:port are not.
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in collapsed))
