"""What the command writes: answers to stdout, everything else to stderr, and nothing that a machine said unwashed."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import IO, cast

from rich import box
from rich.console import Console, RenderableType
from rich.table import Column
from rich.text import Text

from flows.cli.grid import Grid
from flows.cli.steady import SteadyStream
from tasks.reporting.text import clean, one_line

LEAST_WIDTH = 40  # COLUMNS=0 would show nothing at all
UNBOUND_WIDTH = 200  # of what goes to a file or a pipe: nobody wants its lines cut

_STYLES: Mapping[str, str] = {
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
def out() -> Console:
    """Where answers go."""
    return _console(SteadyStream("stdout", BrokenPipeError))


@cache
def err() -> Console:
    """Where everything else goes: progress, questions, errors."""
    return _console(SteadyStream("stderr", OSError))


def _console(stream: SteadyStream) -> Console:
    console = Console(file=cast("IO[str]", stream), highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUND_WIDTH
    console.width = max(LEAST_WIDTH, console.width)
    return console


def spell_out() -> None:
    """Let characters that stdout or stderr have no code for (LANG=C, say) be spelt out, and not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def safe(text: str, style: str = "", limit: int | None = None) -> Text:
    """Return text that came from a machine, harmless: on one line, nothing in it obeyed by a terminal or by rich."""
    return Text(one_line(text, limit), style=style)


def safe_lines(text: str) -> Text:
    """Return several lines that came from a machine, harmless."""
    return Text(clean(text))


def state(name: str, *, short: bool = False) -> Text:
    """Return a state in its colour, which says nothing that its name doesn't. ``short`` is for narrow columns."""
    shown = "Warnings" if short and name == "CompletedWithWarnings" else name
    return Text(shown, style=_STYLES.get(name, ""))


def number(value: int, style: str = "") -> Text:
    """Return a count; none at all is pale."""
    return Text(str(value), style=style if value else "dim", justify="right")


def table(*columns: str | Column, title: str = "") -> Grid:
    """Return an empty table that is read at 80 columns as well as at 140."""
    made = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", title_justify="left")
    made.padding = (0, 1, 0, 0)
    made.title = Text(title, style="bold") if title else None
    for each in columns:
        if isinstance(each, Column):
            made.add_column(
                each.header,
                justify=each.justify,
                no_wrap=each.no_wrap,
                ratio=each.ratio,
                overflow=each.overflow,
                max_width=each.max_width,
                min_width=each.min_width,
            )
        else:
            made.add_column(each, overflow="fold")
    return made


def right(header: str) -> Column:
    """Return a column of figures."""
    return Column(header, justify="right", no_wrap=True)


def solid(header: str) -> Column:
    """Return a column that isn't broken into lines: names and states."""
    return Column(header, no_wrap=True, overflow="ellipsis")


def say(*lines: RenderableType) -> None:
    """Print answers."""
    for line in lines:
        out().print(Text(line) if isinstance(line, str) else line)


def note(line: RenderableType) -> None:
    """Print something that isn't the answer."""
    err().print(Text(line) if isinstance(line, str) else line)


def print_json(document: object) -> None:
    """Print the one document of --json. It is plain ASCII, so that no terminal obeys what machines say."""
    stream = out().file
    stream.write(json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
    stream.flush()


def lines_of(texts: Iterable[str], limit: int) -> Sequence[str]:
    """Return the first texts, and how many more there are."""
    every = list(texts)
    more = [f"… and {len(every) - limit} more"] if len(every) > limit else []
    return [*every[:limit], *more]


class ScreenHandler(logging.Handler):
    """Log records through the same console as the progress display, which they would tear otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print warnings and worse; Prefect's own go to its server."""
        if not record.name.startswith(("prefect", "httpx", "uvicorn")):
            style = "red" if record.levelno >= logging.ERROR else "yellow"
            note(Text.assemble((f"{record.levelname.lower()}: ", style), safe(record.getMessage())))


def log_to_screen() -> None:
    """Send warnings of all rooms to stderr, whoever set logging up before."""
    logging.basicConfig(level=logging.WARNING, handlers=[ScreenHandler(logging.WARNING)], force=True)
