"""Compares names of logins: narrowly to allow something, widely to refuse something. Pure.

A wide comparison (NFKC and casefold, UAX 15 and UAX 31) joins names that are different people at a provider: a long
s is "s" there, and "ß" is "ss".
"""

import string
import unicodedata
from typing import Final

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold_ascii(name: str) -> str:
    """Return a name for a comparison that allows something: only A to Z lose their case."""
    return name.strip().translate(_LOWER)


def fold_widely(name: str) -> str:
    """Return a name for a comparison that refuses something: whatever may be taken for the same name is the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def is_plain(name: str) -> bool:
    """Return whether a name has no characters that stand for others, as ligatures and accents of their own do."""
    return unicodedata.normalize("NFKC", name) == name
