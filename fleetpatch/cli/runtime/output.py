"""What the command writes and asks: results go to stdout, all else to stderr. Text from machines is sanitized."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import IO, Final, ParamSpec, TextIO, cast

from rich.console import Console, RenderableType
from rich.text import Text

from tasks.domain.errors import RequestError
from tasks.domain.states import FindingLevel
from tasks.reports.sanitizing import sanitize, sanitize_to_one_line

Arguments = ParamSpec("Arguments")
_ANSWERS: ContextVar[list[bool] | None] = ContextVar("fleetpatch_answers", default=None)
MIN_WIDTH = 40  # COLUMNS=0 would show nothing
NON_TERMINAL_WIDTH = 200  # for files and pipes, which have no width

_STYLES_BY_STATE: Mapping[str, str] = {
    state: style
    for style, states in {
        "green": ("Succeeded", "Compliant", "Installed", "Completed", "good", "Ready", "ready"),
        "yellow": (
            "CompletedWithWarnings",
            "Cancelled",
            "NotStarted",
            "NotAttempted",
            "Blocked",
            "Required",
            "Started",
            "warn",
            "Warnings",
        ),
        "red": ("SetupFailed", "NonCompliant"),
        "cyan": ("InProgress",),
        "bold red": ("Failed", "block", "Not ready", "not ready"),
        "magenta": ("Unknown", "NotAssessed"),
        "dim": ("Excluded", "NotSelected", "NotNeeded"),
    }.items()
    for state in states
}


@cache
def _open_devnull() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


class ErrorTolerantStream(io.TextIOBase):
    """Writes to the current stdout or stderr. Tolerated errors end the output, and nothing else.

    A lost output (`| head`, a closed terminal, a full disk) does not end the run. A run reports its progress from many
    threads: none of them may fail because the reader is gone.

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
def get_stdout_console() -> Console:
    """The console of results."""
    return _build_console(ErrorTolerantStream("stdout", BrokenPipeError))


@cache
def get_stderr_console() -> Console:
    """The console of everything else: progress, questions, errors."""
    return _build_console(ErrorTolerantStream("stderr", OSError))


def _build_console(stream: ErrorTolerantStream) -> Console:
    console = Console(file=cast("IO[str]", stream), highlight=False, soft_wrap=False, emoji=False)
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
    text = "Warnings" if short and name == "CompletedWithWarnings" else name
    return Text(text, style=_STYLES_BY_STATE.get(name, ""))


def render_count(value: int, style: str = "") -> Text:
    """Return a count; zero is dim."""
    return Text(str(value), style=style if value else "dim", justify="right")


def print_to_stdout(*lines: RenderableType) -> None:
    """Print results. A text stays on one line, however long it is: people copy commands, keys and paths from it."""
    for line in lines:
        _print_whole(get_stdout_console(), line)


def print_to_stderr(line: RenderableType) -> None:
    """Print something that is not a result. A text stays on one line."""
    _print_whole(get_stderr_console(), line)


def print_unwrapped(line: str) -> None:
    """Print a result with text from elsewhere."""
    print_to_stdout(to_safe_text(line))


def print_warning(text: str, *, to_stderr: bool = False) -> None:
    """Print one line with the mark of warnings, and with text from elsewhere."""
    (print_to_stderr if to_stderr else print_to_stdout)(Text.assemble(("! ", "yellow"), to_safe_text(text)))


def print_detail(text: str, style: str = "", *, indent: int = 4) -> None:
    """Print a line below another one, with text from elsewhere."""
    print_to_stdout(Text.assemble(" " * indent, to_safe_text(text, style)))


def _print_whole(console: Console, line: RenderableType) -> None:
    """Print a text without line ends of ours: the terminal wraps it. Tables fit its width by themselves."""
    text = Text(line) if isinstance(line, str) else line
    console.print(text, soft_wrap=isinstance(text, Text), crop=False)


def print_error(message: str, hint: str) -> None:
    """Print an error, and its remedy if there is one."""
    get_stderr_console().print("error:", to_safe_lines(message), style="bold red", soft_wrap=True)
    if hint:
        get_stderr_console().print("hint:", to_safe_lines(hint), soft_wrap=True)


def can_ask() -> bool:
    """Whether there is a terminal, so that a person can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask the person at the terminal. Return whether the answer is yes."""
    get_stderr_console().print(Text.assemble(to_safe_text(question), " [y/N] "), end="", soft_wrap=True)
    is_yes = sys.stdin.readline().strip().lower() in {"y", "yes"}
    answers = _ANSWERS.get()
    if answers is not None:
        answers.append(is_yes)
    return is_yes


def require_terminal(subject: str, hint: str) -> None:
    """Raise RequestError if there is no terminal to ask for a confirmation."""
    if not can_ask():
        raise RequestError(f"{subject} needs a confirmation, and there is no terminal", hint=hint)


def confirm(question: str, subject: str, hint: str = "Add --yes.") -> bool:
    """Ask the person at the terminal, and say that nothing was done if the answer is no.

    ``subject``: what needs the answer, as the beginning of a sentence.
    ``hint``: the remedy without a terminal.

    Raises:
        RequestError: there is no terminal.
    """
    require_terminal(subject, hint)
    is_yes = ask(question)
    if not is_yes:
        print_to_stderr("Nothing was done.")
    return is_yes


@contextmanager
def collect_answers() -> Iterator[Sequence[bool]]:
    """Give the answers that a person gives to ``ask`` in the block."""
    answers: list[bool] = []
    token = _ANSWERS.set(answers)
    try:
        yield answers
    finally:
        _ANSWERS.reset(token)


def print_json(document: object) -> None:
    """Print the one document of --json. It is ASCII, so that no terminal interprets text from machines."""
    write_json(render_json(document))


def write_json(text: str) -> None:
    """Print a document that ``render_json`` has made."""
    stream = get_stdout_console().file
    stream.write(f"{text}\n")
    stream.flush()


def render_json(value: object, margin: str = "\n") -> str:
    """Return JSON data as ASCII text, as ``json.dumps`` with ``indent=1`` does, in a fifth of its time.

    Args:
        value: the data. Keys are text.
        margin: a line end, and the blanks before the last line of the value.

    Raises:
        ValueError: a number is not finite.
    """
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if isinstance(value, int):
        return int.__repr__(value) if value is not True and value is not False else "true" if value else "false"
    inner = f"{margin} "
    if isinstance(value, dict) and value:
        pairs = [
            f"{encode_basestring_ascii(key)}: "
            f"{encode_basestring_ascii(member) if type(member) is str else render_json(member, inner)}"
            for key, member in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(pairs)}{margin}}}"
    if isinstance(value, (list, tuple)) and value:
        return f"[{inner}{f',{inner}'.join([render_json(member, inner) for member in value])}{margin}]"
    return json.dumps(value, allow_nan=False)


def print_json_or_text(
    as_json: bool,
    build_json: Callable[Arguments, object],
    print_text: Callable[Arguments, None],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> None:
    """Print the JSON document of some objects, or their text for people."""
    if as_json:
        print_json(build_json(*args, **kwargs))
    else:
        print_text(*args, **kwargs)


def shorten_list(texts: Iterable[str], limit: int) -> Sequence[str]:
    """Return the first texts, and the number of further ones."""
    all_texts = list(texts)
    more = [f"… and {len(all_texts) - limit} more"] if len(all_texts) > limit else []
    return [*all_texts[:limit], *more]


class ConsoleLogHandler(logging.Handler):
    """Prints log records on the console of the progress display, so that they do not break it.

    A command may read its inventory several times: each warning about it is printed once.
    """

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._printed_about_inventory: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print warnings and errors. Prefect's own go to its server."""
        if record.name.startswith("inventory."):
            if record.getMessage() in self._printed_about_inventory:
                return
            self._printed_about_inventory.add(record.getMessage())
        if not record.name.startswith(("prefect", "httpx", "uvicorn")):
            style = "red" if record.levelno >= logging.ERROR else "yellow"
            print_to_stderr(Text.assemble((f"{record.levelname.lower()}: ", style), to_safe_text(record.getMessage())))


def configure_logging() -> None:
    """Send all warnings to stderr, and replace other handlers."""
    logging.basicConfig(level=logging.WARNING, handlers=[ConsoleLogHandler(logging.WARNING)], force=True)


_MARKS: Final = {FindingLevel.GOOD: "✓", FindingLevel.REMARK: "·", FindingLevel.WARN: "!", FindingLevel.BLOCK: "✗"}


def render_mark(level: FindingLevel) -> Text:
    """Return the mark of a level in its colour."""
    return Text(_MARKS[level], style=render_state(level).style)


def render_marked_line(level: FindingLevel, subject: str, text: str) -> Text:
    """Return one line with the mark of a level, a subject in bold, and text from elsewhere."""
    return Text.assemble(render_mark(level), " ", to_safe_text(subject, "bold"), ": ", to_safe_text(text))
