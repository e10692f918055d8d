"""What the command writes: results to stdout, everything else to stderr. Text from machines is sanitized."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import IO, cast

from rich.console import Console, RenderableType
from rich.text import Text

from flows.cli.runtime.output_stream import ErrorTolerantStream
from tasks.reporting.sanitizing import sanitize, sanitize_to_one_line
from tasks.states import FindingLevel

MIN_WIDTH = 40  # COLUMNS=0 would show nothing
NON_TERMINAL_WIDTH = 200  # for files and pipes, which have no width

_STYLES_BY_STATE: Mapping[str, str] = {
    "Succeeded": "green",
    "Compliant": "green",
    "Installed": "green",
    "Completed": "green",
    "good": "green",
    "ready": "green",
    "CompletedWithWarnings": "yellow",
    "NotStarted": "yellow",
    "NotAttempted": "yellow",
    "Required": "yellow",
    "Started": "yellow",
    "InProgress": "cyan",
    "warn": "yellow",
    "Failed": "bold red",
    "NonCompliant": "red",
    "block": "bold red",
    "not ready": "bold red",
    "Unknown": "magenta",
    "NotAssessed": "magenta",
    "Excluded": "dim",
    "NotSelected": "dim",
    "NotNeeded": "dim",
}


@cache
def get_stdout_console() -> Console:
    """The console of results."""
    return _build_console(ErrorTolerantStream("stdout", BrokenPipeError))


@cache
def get_stderr_console() -> Console:
    """The console of everything else: progress, questions, errors."""
    return _build_console(ErrorTolerantStream("stderr", OSError))


def _build_console(stream: ErrorTolerantStream) -> Console:
    console = Console(file=cast("IO[str]", stream), highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = NON_TERMINAL_WIDTH
    console.width = max(MIN_WIDTH, console.width)
    return console


def escape_unencodable_output() -> None:
    """Write characters that stdout or stderr cannot encode (LANG=C, for example) as escapes, not as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def to_safe_text(text: str, style: str = "", limit: int | None = None) -> Text:
    """Return text from a machine on one line, without anything that a terminal or rich interprets."""
    return Text(sanitize_to_one_line(text, limit), style=style)


def to_safe_lines(text: str) -> Text:
    """Return several lines from a machine, without anything that a terminal or rich interprets."""
    return Text(sanitize(text))


def render_state(name: str, *, short: bool = False) -> Text:
    """Return a state in its colour. ``short`` is for narrow columns."""
    shown = "Warnings" if short and name == "CompletedWithWarnings" else name
    return Text(shown, style=_STYLES_BY_STATE.get(name, ""))


def render_count(value: int, style: str = "") -> Text:
    """Return a count; zero is dim."""
    return Text(str(value), style=style if value else "dim", justify="right")


def print_to_stdout(*lines: RenderableType) -> None:
    """Print results."""
    for line in lines:
        get_stdout_console().print(Text(line) if isinstance(line, str) else line)


def print_to_stderr(line: RenderableType) -> None:
    """Print something that is not a result."""
    get_stderr_console().print(Text(line) if isinstance(line, str) else line)


def print_json(document: object) -> None:
    """Print the one document of --json. It is ASCII, so that no terminal interprets text from machines."""
    stream = get_stdout_console().file
    stream.write(json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
    stream.flush()


def shorten_list(texts: Iterable[str], limit: int) -> Sequence[str]:
    """Return the first texts, and the number of further ones."""
    all_texts = list(texts)
    more = [f"… and {len(all_texts) - limit} more"] if len(all_texts) > limit else []
    return [*all_texts[:limit], *more]


class ConsoleLogHandler(logging.Handler):
    """Prints log records on the console of the progress display, so that they do not break it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print warnings and errors. Prefect's own go to its server."""
        if not record.name.startswith(("prefect", "httpx", "uvicorn")):
            style = "red" if record.levelno >= logging.ERROR else "yellow"
            print_to_stderr(Text.assemble((f"{record.levelname.lower()}: ", style), to_safe_text(record.getMessage())))


def configure_logging() -> None:
    """Send all warnings to stderr, and replace other handlers."""
    logging.basicConfig(level=logging.WARNING, handlers=[ConsoleLogHandler(logging.WARNING)], force=True)


_FINDING_MARKS = {FindingLevel.GOOD: "✓", FindingLevel.WARN: "!", FindingLevel.BLOCK: "✗"}


def render_finding_mark(level: FindingLevel) -> Text:
    """Return a finding's mark in its colour."""
    return Text(_FINDING_MARKS[level], style=render_state(level).style)
