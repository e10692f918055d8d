"""Reads a feed file as text in bounded parts, unpacking gzip, and one large JSON object entry by entry.

A file of any size or content needs little memory.
"""

import codecs
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

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
        parts = chain((first,), iter(partial(stream.read, _PART_BYTES), b""))
        yield from _unpack(path, parts) if first.startswith(_GZIP_BEGINNING) else parts


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


_MAX_VALUE_CHARACTERS: Final = 16 * 1024 * 1024
"""Maximum length of one entry or header value. Real entries have up to about a tenth of it."""

_KEEP_CHARACTERS: Final = 64 * 1024
_SPACE: Final = re.compile(r"[ \t\r\n]*")


def iterate_json_members(path: Path, list_key: str) -> Iterator[tuple[str, object]]:
    """Yield the members of a JSON object as (key, value), and each entry of the list ``list_key`` as a member.

    Raises:
        FeedError: the file can't be read, is no such object, is damaged or ends in the middle.
    """
    reader = _JsonReader(path)
    reader.expect("{")
    if reader.take_if("}"):
        reader.expect_end()
        return
    while True:
        key = reader.read_value()
        if not isinstance(key, str):
            raise reader.build_error("is no JSON object with texts as keys")
        reader.expect(":")
        if key == list_key:
            yield from ((key, entry) for entry in reader.iterate_list())
        else:
            yield key, reader.read_value()
        if reader.take_if("}"):
            reader.expect_end()
            return
        reader.expect(",")


class _JsonReader:
    """A buffer over the text, from which values are taken one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = iterate_text(path)
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._is_complete = False

    def build_error(self, fault: str) -> FeedError:
        return FeedError(fault, file=self._path, hint=COPY_AGAIN)

    def expect(self, sign: str) -> None:
        if self.take_if(sign):
            return
        ended = self._is_complete and self._at >= len(self._text)
        raise self.build_error(
            "ends in the middle, as if half copied" if ended else f"is no JSON of a feed: {sign!r} is missing"
        )

    def expect_end(self) -> None:
        self._skip_space()
        if self._at < len(self._text):
            raise self.build_error("has something after its end")

    def take_if(self, sign: str) -> bool:
        self._skip_space()
        is_next = self._text.startswith(sign, self._at)
        self._at += is_next
        return is_next

    def iterate_list(self) -> Iterator[object]:
        self.expect("[")
        if self.take_if("]"):
            return
        while True:
            yield self.read_value()
            if self.take_if("]"):
                return
            self.expect(",")

    def read_value(self) -> object:
        """Return the next value. A value that ends with the buffer may go on after it, such as a number."""
        self._skip_space()
        character_count = _KEEP_CHARACTERS
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self.build_error("is no JSON of a feed: it is nested too deep") from error
            except ValueError as error:
                if self._is_complete:
                    has_ended = isinstance(error, json.JSONDecodeError) and (
                        error.pos >= len(self._text.rstrip()) or "Unterminated" in error.msg
                    )
                    fault = "ends in the middle, as if half copied" if has_ended else "is no JSON of a feed, or damaged"
                    raise self.build_error(fault) from error
            else:
                if end < len(self._text) or self._is_complete:
                    self._at = end
                    return value
            if len(self._text) - self._at > _MAX_VALUE_CHARACTERS:
                raise self.build_error("is no JSON of a feed: one entry has more than 16 MiB")
            self._fill(character_count)
            character_count *= 2

    def _skip_space(self) -> None:
        while True:
            self._at = match.end() if (match := _SPACE.match(self._text, self._at)) else self._at
            if self._at < len(self._text) or self._is_complete:
                return
            self._fill(1)

    def _fill(self, character_count: int) -> None:
        """Read at least so many further characters, and drop what was taken."""
        parts = [self._text[self._at :]]
        self._at = 0
        while character_count > 0:
            part = next(self._parts, None)
            if part is None:
                self._is_complete = True
                break
            parts.append(part)
            character_count -= len(part)
        self._text = "".join(parts)
