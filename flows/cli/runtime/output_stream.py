"""Output that may lose its reader without taking the run along: `| head`, a closed terminal, a full disk for a log."""

import io
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TextIO


class ErrorTolerantStream(io.TextIOBase):
    """Writes to stdout or stderr, whichever they are at that moment; some errors end the output, and nothing else.

    A run reports its progress from many threads. None of them may fail because nobody reads that any more.

    Args:
        name: "stdout" or "stderr".
        tolerated_error: errors that mean that there is no reader.
    """

    def __init__(self, name: str, tolerated_error: type[OSError]) -> None:
        self._name = name
        self._tolerated_error = tolerated_error

    @property
    def _stream(self) -> TextIO:
        stream = getattr(sys, self._name)
        if stream is None:  # closed before we came (>&-)
            return _open_devnull()
        proxied: TextIO = getattr(stream, "rich_proxied_file", stream)  # rich stands before it while it draws
        return proxied

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute up there
        """What rich draws its lines for."""
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        """Whether a person looks."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file below."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, as long as somebody reads."""
        try:
            return self._stream.write(text)
        except self._tolerated_error:
            self._redirect_to_devnull()
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, as long as somebody reads."""
        try:
            self._stream.flush()
        except self._tolerated_error:
            self._redirect_to_devnull()

    def _redirect_to_devnull(self) -> None:
        """Let the rest go nowhere: Python tries to write it once more when it ends."""
        with suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._stream.fileno())
            os.close(devnull)


@cache
def _open_devnull() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
