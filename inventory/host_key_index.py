"""Finds the lines of a known_hosts file that name an address, without looking at all of them.

A plain name is looked up. Patterns are tried one by one. A hashed name says nothing of itself but whether it is a given
one, so each takes an HMAC, as in OpenSSH; an address is hashed with each line's salt once, and the answer kept.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

CERT_AUTHORITY = "@cert-authority"
REVOKED = "@revoked"


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A public key as known_hosts has it: "ssh-ed25519" and the like, and its blob in base64."""

    type: str
    base64: str


@dataclass(frozen=True, slots=True)
class HostKeyEntry:
    """A line that was understood: its marker or "", its names as they stand there, and its key."""

    marker: str
    names: str
    key: PinnedKey


_Numbered = tuple[int, HostKeyEntry]


class HostKeyIndex:
    """The entries of one file, in its order. Entries are added only; another file's content takes another index."""

    def __init__(self, entries: Iterable[HostKeyEntry] = ()) -> None:
        self._count = 0
        self._plain: dict[str, list[_Numbered]] = {}
        self._patterns: list[tuple[_Numbered, list[tuple[bool, re.Pattern[str]]]]] = []
        self._hashed: list[tuple[_Numbered, bytes, bytes]] = []
        self._revoked: set[PinnedKey] = set()
        self._unhashed: dict[str, tuple[_Numbered, ...]] = {}
        for entry in entries:
            self._add(entry)

    def add_plain(self, name: str, key: PinnedKey) -> None:
        """Add the line of one plain name at the end."""
        self._add(HostKeyEntry("", name, key))

    def is_revoked(self, key: PinnedKey) -> bool:
        """Return whether a line revokes the key."""
        return key in self._revoked

    def keys(self, marker: str, address: str) -> tuple[PinnedKey, ...]:
        """Return the unrevoked keys of lines with that marker that name the address, in the order of the file."""
        found = [*self._plain.get(address, ()), *self._of_hashed(address)]
        found += [numbered for numbered, patterns in self._patterns if _names(patterns, address)]
        keys = (entry.key for _, entry in sorted(found, key=lambda each: each[0]) if entry.marker == marker)
        return tuple(dict.fromkeys(key for key in keys if key not in self._revoked))

    def _of_hashed(self, address: str) -> tuple[_Numbered, ...]:
        if not self._hashed:
            return ()
        known = self._unhashed.get(address)
        if known is None:
            raw = address.encode()
            known = tuple(
                numbered
                for numbered, salt, digest in self._hashed
                if hmac.compare_digest(hmac.digest(salt, raw, "sha1"), digest)
            )
            self._unhashed[address] = known  # plain lines only are added later, so it stays true
        return known

    def _add(self, entry: HostKeyEntry) -> None:
        numbered = (self._count, entry)
        self._count += 1
        if entry.marker == REVOKED:
            self._revoked.add(entry.key)
            return
        if entry.names.startswith("|1|"):
            _, _, salt, digest = entry.names.split("|")
            self._hashed.append((numbered, base64.b64decode(salt), base64.b64decode(digest)))
            return
        names = entry.names.lower().split(",")
        if any(set(name) & set("*?!") for name in names):
            patterns = [(name.startswith("!"), _pattern(name.removeprefix("!"))) for name in names]
            self._patterns.append((numbered, patterns))
            return
        for name in dict.fromkeys(names):
            self._plain.setdefault(name, []).append(numbered)


def _names(patterns: list[tuple[bool, re.Pattern[str]]], address: str) -> bool:
    matched = False
    for is_negated, pattern in patterns:
        if pattern.fullmatch(address):
            if is_negated:
                return False
            matched = True
    return matched


def _pattern(pattern: str) -> re.Pattern[str]:
    # Only * and ? are special in known_hosts; the brackets of [host]:port are not.
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in collapsed))
