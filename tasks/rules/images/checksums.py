"""Reads the lists of digests that publishers have beside their images: GNU, BSD and clearsigned. Pure."""

import re
from typing import Final

_GNU_LINE: Final = re.compile(r"([0-9a-fA-F]{32,128})(?: [ *](.+))?")
_TAGGED_LINE: Final = re.compile(r"([A-Za-z0-9/-]+) ?\((.+)\) ?= ?([0-9a-fA-F]+)")
_BITS: Final = {"sha256": 256, "sha512": 512}
_WEAK_BITS: Final = frozenset({128, 160, 224, 384})  # md5, sha1, …


def read_checksums(text: str, list_name: str) -> dict[str, str]:
    """Return the digests in a list by the names of its files: ``sha256:…`` or ``sha512:…``, the stronger one of a file.

    Digests of other kinds are left out. The signature of a clearsigned list is not checked.

    Args:
        text: of the list.
        list_name: its file name. A digest that stands alone is that of the file of this name without suffix.

    Raises:
        ValueError: a line can't be read, or contradicts another one. The message says which.
    """
    digests: dict[str, str] = {}
    for number, raw in enumerate(text.partition("-----BEGIN PGP SIGNATURE-----")[0].splitlines(), 1):
        line = raw.strip().removeprefix("- ")
        if not line or line.startswith(("#", "-----BEGIN PGP SIGNED MESSAGE-----", "Hash: ")):
            continue
        plain, tagged = _GNU_LINE.fullmatch(line), _TAGGED_LINE.fullmatch(line)
        if tagged is not None:
            algorithm, name, digest = tagged[1].lower().replace("sha2-", "sha"), tagged[2], tagged[3].lower()
        elif plain is not None:
            digest, name = plain[1].lower(), plain[2] or re.sub(r"\.sha(256|512)(sum)?$", "", list_name)
            algorithm = next((one for one, bits in _BITS.items() if bits == len(digest) * 4), "")
        if (tagged or plain) is None or (not algorithm and len(digest) * 4 not in _WEAK_BITS):
            raise ValueError(f"line {number} is no digest of a file: {line[:80]}")
        if algorithm not in _BITS:
            continue
        if len(digest) * 4 != _BITS[algorithm]:
            raise ValueError(f"line {number} has a digest that is cut: {line[:80]}")
        name, full = name.removeprefix("./"), f"{algorithm}:{digest}"
        if digests.get(name, full).startswith(f"{algorithm}:") and digests.get(name, full) != full:
            raise ValueError(f"line {number} has another digest of {name} than a line before")
        digests[name] = max(digests.get(name, ""), full)
    return digests
