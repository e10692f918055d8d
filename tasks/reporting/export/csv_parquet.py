"""The frames as CSV and Parquet.

CSV is opened with spreadsheets, and those run what begins like a formula: such values get an apostrophe in front, which
spreadsheets take for "this is text". Parquet and JSON are read by programs and keep every value as it is.
"""

import io
from typing import TYPE_CHECKING, Final

from tasks.reporting.sanitizing import sanitize

if TYPE_CHECKING:
    import pandas as pd

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What OWASP lists under "CSV injection", with the full-width forms that some spreadsheets take for the same."""


def render_csv(frame: "pd.DataFrame") -> bytes:
    """Return a frame as CSV: UTF-8, CRLF (RFC 4180), a missing value is empty, moments are ISO 8601 in UTC."""
    shown = frame.copy()
    for name in frame.columns:
        if frame[name].dtype == "string":
            shown[name] = frame[name].map(escape_formula, na_action="ignore")
    text = shown.to_csv(index=False, lineterminator="\r\n", date_format="%Y-%m-%dT%H:%M:%S.%fZ")
    return text.encode("utf-8")


def render_parquet(frame: "pd.DataFrame") -> bytes:
    """Return a frame as a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False, compression="zstd")
    return buffer.getvalue()


def escape_formula(value: str) -> str:
    """Return text that no spreadsheet takes for a formula and no terminal obeys."""
    text = sanitize(value)
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text
