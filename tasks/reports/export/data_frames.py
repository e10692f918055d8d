"""Builds pandas frames of a report, and renders them as CSV and Parquet. Empty frames have the same column types.

pandas takes almost a second to load, so it is loaded when the first frame is built, not when this module is imported.

Spreadsheet programs open CSV files and execute values that begin like a formula. Such values get an apostrophe in
front, which marks them as text. Programs read Parquet and JSON, so there every value is unchanged.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Final, get_args, get_type_hints

from tasks.domain.model import RunReport
from tasks.reports.data.rows import ROW_TYPES, Row, Tables
from tasks.reports.data.tables import build_tables
from tasks.reports.sanitizing import sanitize

if TYPE_CHECKING:
    import pandas as pd

_PANDAS_DTYPES = {
    "str": "string",
    "int": "Int64",
    "float": "Float64",
    "bool": "boolean",
    "datetime": "datetime64[us, UTC]",
}
"""Column types by field type. All of them allow missing values, so pandas does not convert integers to floats."""


@dataclass(frozen=True, slots=True)
class ReportFrames:
    """The tables of one report as pandas frames. Their columns are the fields of the classes in rows.py.

    ``timeline`` has a row for each machine and step, ``waves`` a row for each wave, ``hooks`` a row for each execution
    of a hook.
    """

    runs: "pd.DataFrame"
    machines: "pd.DataFrame"
    updates: "pd.DataFrame"
    transactions: "pd.DataFrame"
    findings: "pd.DataFrame"
    waves: "pd.DataFrame"
    timeline: "pd.DataFrame"
    hooks: "pd.DataFrame"

    def items(self) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Yield each frame with its name."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)


def build_frames(report: RunReport) -> ReportFrames:
    """Return the frames of a report. Datetimes are in UTC. A report without machines has typed frames without rows."""
    return build_frames_from_tables(build_tables(report))


def build_frames_from_tables(tables: Tables) -> ReportFrames:
    """Return the frames of existing tables."""
    return ReportFrames(**{name: build_frame(row_type, getattr(tables, name)) for name, row_type in ROW_TYPES.items()})


def find_column_dtypes(row_type: type[Row]) -> dict[str, str]:
    """Return the pandas type of each column of a row type."""
    hints = get_type_hints(row_type)
    types = {field.name: get_args(hints[field.name]) or (hints[field.name],) for field in fields(row_type)}
    return {name: _PANDAS_DTYPES[alternatives[0].__name__] for name, alternatives in types.items()}


def build_frame(row_type: type[Row], rows: Sequence[Row]) -> "pd.DataFrame":
    """Return the frame of rows: a column for each field of their class, with its type also without rows."""
    import pandas as pd  # noqa: PLC0415  loaded late, see the module's first lines

    return pd.DataFrame(
        {
            name: pd.Series(_read_column(rows, name, dtype), dtype=dtype)
            for name, dtype in find_column_dtypes(row_type).items()
        }
    )


def _read_column(rows: Sequence[Row], name: str, dtype: str) -> list[object]:
    values = list(map(attrgetter(name), rows))
    return list(map(_replace_surrogates, values)) if dtype == "string" else values


def _replace_surrogates(value: object) -> object:
    """Replace lone surrogates, which cannot be encoded as UTF-8."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


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
