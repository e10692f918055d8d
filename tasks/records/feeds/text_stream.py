"""Reads a feed file as text in bounded parts, unpacking gzip. A file of any size or content needs little memory."""

import codecs
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from inventory.files.file_trust import UntrustedFile, require_trusted
from tasks.domain.errors import FeedError

MAX_TEXT_BYTES: Final = 1024 * 1024 * 1024
"""Maximum size of the unpacked text. The largest real file, a year of NVD, has about a quarter of it."""

_PART_BYTES: Final = 256 * 1024
_GZIP_BEGINNING: Final = b"\x1f\x8b"
COPY_AGAIN: Final = "Copy or download the file again, and put it into the folder under its final name last."
"""The remedy for a damaged file."""


def iterate_text(path: Path) -> Iterator[str]:
    """Yield the text of a file in parts of at most 256 KiB.

    Raises:
        FeedError: it can't be read, is not trusted, is no regular file, is damaged, too large or no UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    total = 0
    try:
        for part in _iterate_bytes(path):
            total += len(part)
            if total > MAX_TEXT_BYTES:
                raise FeedError(
                    f"has more than {MAX_TEXT_BYTES // 1024**2} MiB of text",
                    file=path,
                    hint="No feed is so large. Remove the file, and download it from its publisher again.",
                )
            yield decoder.decode(part)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise FeedError(
            "is no UTF-8 text",
            file=path,
            hint="Take the file as its publisher offers it. PowerShell's `>` and editors may change its encoding.",
        ) from error
    except UntrustedFile as error:
        raise FeedError(f"is not trusted: {error.message}", file=path, hint=error.hint) from error
    except OSError as error:
        raise FeedError(
            f"can't be read: {error.strerror or error}",
            file=path,
            hint="Make it a regular file that the user who runs fleetpatch can read.",
        ) from error


def _iterate_bytes(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked.

    Raises:
        OSError: it can't be read.
        UntrustedFile: somebody else may have written it.
        FeedError: it is empty, or its compression is damaged.
    """
    # Without O_NONBLOCK, open() waits for the writer of a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(None, "it is no regular file")
        require_trusted(path, handle)
        first = stream.read(_PART_BYTES)
        if not first:
            raise FeedError("is empty", file=path, hint=COPY_AGAIN)
        parts = _iterate_rest(first, stream)
        yield from _unpack(path, parts) if first.startswith(_GZIP_BEGINNING) else parts


def _iterate_rest(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    part = first
    while part:
        yield part
        part = stream.read(_PART_BYTES)


def _unpack(path: Path, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield unpacked parts. A part of a gzip file may unpack to a thousand times its size, so each is limited."""
    decoder = zlib.decompressobj(wbits=31)  # 31: gzip
    try:
        for part in parts:
            remainder = part
            while remainder:
                yield decoder.decompress(remainder, _PART_BYTES)
                remainder = decoder.unconsumed_tail
                if decoder.eof:
                    remainder = decoder.unused_data.lstrip(b"\0")
                    decoder = zlib.decompressobj(wbits=31) if remainder else decoder
    except zlib.error as error:
        raise FeedError("is damaged: it can't be unpacked", file=path, hint=COPY_AGAIN) from error
    if not decoder.eof:
        raise FeedError("ends in the middle, as if half copied", file=path, hint=COPY_AGAIN)
