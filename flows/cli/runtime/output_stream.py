"""Output whose loss does not end the run: `| head`, a closed terminal, a full disk."""

import io
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TextIO


class ErrorTolerantStream(io.TextIOBase):
    """Writes to the current stdout or stderr. Tolerated errors end the output, and nothing else.

    A run reports its progress from many threads. None of them may fail because the reader is gone.

    Args:
        name: "stdout" or "stderr".
        tolerated_error: the class of errors that mean that the reader is gone.
    """

    def __init__(self, name: str, tolerated_error: type[OSError]) -> None:
        self._name = name
        self._tolerated_error = tolerated_error

    @property
    def _stream(self) -> TextIO:
        stream = getattr(sys, self._name)
        if stream is None:  # closed before the start (>&-)
            return _open_devnull()
        proxied: TextIO = getattr(stream, "rich_proxied_file", stream)  # rich replaces it while it draws
        return proxied

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        """The encoding that rich draws for."""
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, as long as there is a reader."""
        try:
            return self._stream.write(text)
        except self._tolerated_error:
            self._redirect_to_devnull()
            return len(text)

    def flush(self) -> None:
        """Flush, as long as there is a reader."""
        try:
            self._stream.flush()
        except self._tolerated_error:
            self._redirect_to_devnull()

    def _redirect_to_devnull(self) -> None:
        """Discard the rest: Python writes it once more at exit."""
        with suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._stream.fileno())
            os.close(devnull)


@cache
def _open_devnull() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
