"""Makes text that came from machines harmless, and figures readable.

Names, versions, reasons and logs are written by whoever owns a machine (or its repositories). Before a person sees
them, whatever could act on a terminal or turn a line of text around is shown instead of obeyed.
"""

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NOTHING: Final = "\N{EN DASH}"
"""Stands where there is no figure."""

NOT_KNOWN: Final = "not known"
"""Stands where no machine can tell the figure: that is not the same as none."""

_TERMINAL_SEQUENCE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]P^_X][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, PM, APC, SOS: titles, links, clipboards
    r"|\x1b[ -/]*[0-~]"  # everything else that ESC begins
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same CSI as one byte
)
_UNSAFE: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, without tab and newline
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff"  # invisible, and bidi overrides
    "\ud800-\udfff"  # halves of surrogate pairs: what was no UTF-8
    "\U000e0000-\U000e0fff"  # tags and further variation selectors: invisible text
    "]"
)
_LINES: Final = re.compile(r"[\r\n\t ]+")


def _shown(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def clean(text: str) -> str:
    r"""Return the text with terminal sequences taken out and every unsafe character shown as ``\uXXXX``.

    Newlines and tabs stay. The result can always be encoded as UTF-8.
    """
    if text.isascii() and text.isprintable():  # nearly all of it, and by far the quickest answer
        return text
    return _UNSAFE.sub(_shown, _TERMINAL_SEQUENCE.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int | None = None) -> str:
    """Return the text cleaned, on one line, and cut with "…" when it is longer than ``limit`` characters."""
    flat = _LINES.sub(" ", clean(text if limit is None else text[: limit * 8])).strip()
    if limit is None or len(flat) <= limit:
        return flat
    return flat[: limit - 1].rstrip() + "…"


def duration(seconds: float | None) -> str:
    """Return seconds as "42 s", "3 min 05 s" or "2 h 07 min"; a dash for None."""
    if seconds is None:
        return NOTHING
    sign, whole = ("-" if seconds <= -0.5 else ""), round(abs(seconds))
    if whole < 60:
        return f"{sign}{whole} s"
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60:02d} s"
    return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} min"


def minutes(seconds: float) -> str:
    """Return seconds as minutes, rounded up to what a person plans with: "under 1 min", "12 min", "2 h 07 min"."""
    if seconds < 60:
        return "under 1 min"
    whole = -int(-seconds // 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"


def plural(number: int, singular: str, several: str | None = None) -> str:
    """Return "1 machine", "3 machines"; thousands are grouped."""
    return f"{number:,} {singular if number == 1 else several or singular + 's'}".replace(",", "\u202f")


def zone_or_utc(name: str) -> ZoneInfo:
    """Return that zone, or UTC when this system doesn't know it: a report is shown whatever its window says."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def iso(at: datetime | None) -> str | None:
    """Return a moment for programs, in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment(at: datetime | None, zone: ZoneInfo) -> str:
    """Return a moment as "Fri 20 Nov 2026 02:00:05" in that zone; a dash for None."""
    return NOTHING if at is None else f"{at.astimezone(zone):%a %d %b %Y %H:%M:%S}"


def clock_time(at: datetime | None, zone: ZoneInfo, *, seconds: bool = True) -> str:
    """Return a time of day in that zone, "02:00:05"; a dash for None."""
    return NOTHING if at is None else at.astimezone(zone).strftime("%H:%M:%S" if seconds else "%H:%M")
