"""Reads one large JSON object with a long list in it, one entry of the list at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.domain.errors import FeedError
from tasks.records.feeds.text_stream import COPY_AGAIN, iterate_text

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

    def build_error(self, what: str) -> FeedError:
        return FeedError(what, file=self._path, hint=COPY_AGAIN)

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
                    raise self.build_error(_describe(error, self._text)) from error
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

    def _fill(self, wanted: int) -> None:
        """Read at least so many further characters, and drop what was taken."""
        parts = [self._text[self._at :]]
        self._at = 0
        while wanted > 0:
            part = next(self._parts, None)
            if part is None:
                self._is_complete = True
                break
            parts.append(part)
            wanted -= len(part)
        self._text = "".join(parts)


def _describe(error: ValueError, text: str) -> str:
    at = error.pos if isinstance(error, json.JSONDecodeError) else 0
    ended = isinstance(error, json.JSONDecodeError) and (at >= len(text.rstrip()) or "Unterminated" in error.msg)
    return "ends in the middle, as if half copied" if ended else "is no JSON of a feed, or damaged"
