"""Compares names of logins: narrowly to allow something, widely to refuse something. Pure.

A wide comparison (NFKC and casefold, UAX 15 and UAX 31) joins names that are different people at a provider: a long
s is "s" there, and "ß" is "ss".
"""

import string
import unicodedata
from typing import Final

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_IGNORED: Final = frozenset({"Mn", "Mc", "Me", "Cf", "Cc"})
"""Categories of marks, and of characters that nobody sees. Of those, RFC 4518 ignores most."""


def fold_ascii(name: str) -> str:
    """Return a name for a comparison that allows something: only A to Z lose their case."""
    return name.strip().translate(_LOWER)


def fold_widely(name: str) -> str:
    """Return a name for a comparison that refuses something: whatever may be taken for the same name is the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def fold_like_directory(name: str) -> str:
    """Return a name for counting what is tried with it. Directories find an account also without its accents.

    They compare by their own rules: OpenLDAP by RFC 4518, which takes several blanks for one, and Active Directory
    without accents. Names that are different people at a directory may share a count.
    """
    decomposed = unicodedata.normalize("NFKD", fold_widely(name))
    characters = (
        character for character in decomposed if character.isspace() or unicodedata.category(character) not in _IGNORED
    )
    return " ".join("".join(characters).split())


def is_plain(name: str) -> bool:
    """Return whether a name has no characters that stand for others, as ligatures and accents of their own do."""
    return unicodedata.normalize("NFKC", name) == name
