"""Sanitizes text from machines, and escapes it for spreadsheets, Markdown and file names.

The owner of a machine or of its repositories controls names, versions, reasons and logs. So terminal sequences are
removed, and characters that could control a terminal or reverse the direction of text are shown as codes.
"""

import hashlib
import re
from typing import Final

_TERMINAL_SEQUENCE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]P^_X][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, PM, APC, SOS: titles, links, clipboards
    r"|\x1b[ -/]*[0-~]"  # all other sequences that begin with ESC
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same CSI as one byte
)


_UNSAFE_CHARACTER: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, without tab and newline
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"  # invisible, and bidi overrides
    "\ud800-\udfff"  # lone surrogates: bytes that were not UTF-8
    "\U000e0000-\U000e0fff"  # tags and further variation selectors: invisible text
    "]"
)


_WHITESPACE: Final = re.compile(r"[\r\n\t ]+")


def sanitize(text: str) -> str:
    r"""Return the text without terminal sequences and with every unsafe character as ``\uXXXX``.

    Newlines and tabs are kept. The result can always be encoded as UTF-8.
    """
    if text.isascii() and text.isprintable():  # true for almost all text, and fast
        return text
    text = _TERMINAL_SEQUENCE.sub("", text.replace("\r\n", "\n"))
    return _UNSAFE_CHARACTER.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def sanitize_to_one_line(text: str, limit: int | None = None) -> str:
    """Return the sanitized text on one line. If it is longer than ``limit`` characters, cut it and add "…"."""
    if text.isascii() and text.isprintable() and " " not in text and (limit is None or len(text) <= limit):
        return text  # most names, states and versions
    flat = _WHITESPACE.sub(" ", sanitize(text if limit is None else text[: limit * 8])).strip()
    if limit is None or len(flat) <= limit:
        return flat
    return flat[: limit - 1].rstrip() + "…"


_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""OWASP's list for "CSV injection", and the full-width forms that some spreadsheet programs accept too."""


def escape_formula(value: str) -> str:
    """Return text that is no spreadsheet formula and has no terminal sequences."""
    text = sanitize(value)
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text


_SPECIAL_CHARACTERS: Final = re.compile(
    r"[\\`*_{}\[\]()#+!|~<>&\"'$^=@]"  # syntax of Markdown and HTML
    r"|:(?=//)|(?<=www)\."  # bare addresses would become links
    r"|^-|(?<=^\d)\.(?= )|(?<=^\d\d)\.(?= )|(?<=^\d\d\d)\.(?= )",  # a cell that begins with it would become a list
    re.IGNORECASE,
)
# Prefect's UI shows numeric references (&#43;) undecoded. Backslash escapes and these named references work.
_HTML_ENTITIES: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;"}
_MAX_CELL_CHARACTERS: Final = 200


def escape_markdown(text: str, limit: int = _MAX_CELL_CHARACTERS) -> str:
    """Return Markdown that shows the text literally, on one line, cut to ``limit`` characters."""
    return _SPECIAL_CHARACTERS.sub(
        lambda match: _HTML_ENTITIES.get(match.group(), f"\\{match.group()}"), sanitize_to_one_line(text, limit)
    )


_SAFE_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def to_safe_file_name(name: str) -> str:
    """Return a safe file name for any name. Different names have different file names."""
    if _SAFE_NAME_PATTERN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60].strip("_") or "unnamed"
    return f"{readable}~{digest}"
