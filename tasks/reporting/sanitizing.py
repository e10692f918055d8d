"""Makes text from machines harmless.

Whoever owns a machine or its repositories writes its names, versions, reasons and logs. Characters that could control a
terminal or turn a line of text around are removed or shown as codes.
"""

import re
from typing import Final

_TERMINAL_SEQUENCE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]P^_X][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, PM, APC, SOS: titles, links, clipboards
    r"|\x1b[ -/]*[0-~]"  # everything else that ESC begins
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same CSI as one byte
)


_UNSAFE_CHARACTER: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, without tab and newline
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"  # invisible, and bidi overrides
    "\ud800-\udfff"  # halves of surrogate pairs: what was no UTF-8
    "\U000e0000-\U000e0fff"  # tags and further variation selectors: invisible text
    "]"
)


_WHITESPACE: Final = re.compile(r"[\r\n\t ]+")


def _escape_character(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def sanitize(text: str) -> str:
    r"""Return the text with terminal sequences taken out and every unsafe character shown as ``\uXXXX``.

    Newlines and tabs stay. The result can always be encoded as UTF-8.
    """
    if text.isascii() and text.isprintable():  # nearly all of it, and by far the quickest answer
        return text
    return _UNSAFE_CHARACTER.sub(_escape_character, _TERMINAL_SEQUENCE.sub("", text.replace("\r\n", "\n")))


def sanitize_to_one_line(text: str, limit: int | None = None) -> str:
    """Return the text cleaned, on one line, and cut with "…" when it is longer than ``limit`` characters."""
    flat = _WHITESPACE.sub(" ", sanitize(text if limit is None else text[: limit * 8])).strip()
    if limit is None or len(flat) <= limit:
        return flat
    return flat[: limit - 1].rstrip() + "…"
