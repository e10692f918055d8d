"""Renders frames as CSV and Parquet.

Spreadsheet programs open CSV files and execute values that begin like a formula. Such values get an apostrophe in
front, which marks them as text. Programs read Parquet and JSON, so there every value is unchanged.
"""

import io
from typing import TYPE_CHECKING, Final

from tasks.reporting.sanitizing import sanitize

if TYPE_CHECKING:
    import pandas as pd

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""OWASP's list for "CSV injection", and the full-width forms that some spreadsheet programs accept too."""


def render_csv(frame: "pd.DataFrame") -> bytes:
    """Return a frame as CSV: UTF-8, CRLF (RFC 4180), missing values are empty, datetimes are ISO 8601 in UTC."""
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
    """Return text that is no spreadsheet formula and has no terminal sequences."""
    text = sanitize(value)
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text
