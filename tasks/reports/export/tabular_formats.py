"""Rows and reports as JSON, CSV, Arrow, Parquet and pandas frames. Columns have the names and types of the row's class.

pandas takes almost a second to load, and 80 MiB. So it is loaded when the first frame is built, not when this module is
imported, and files are written without it.

Spreadsheet programs open CSV files and execute values that begin like a formula. Such values get an apostrophe in
front, which marks them as text. Programs read Parquet and JSON, so there every value is unchanged.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from inventory.data_class import dataclass
from tasks.domain.model import RunReport
from tasks.domain.rows import ColumnKind, list_kinds, read_columns
from tasks.reports.data.rows import ROW_TYPES, Row
from tasks.reports.data.tables import build_tables
from tasks.reports.export.parquet_library import load_pyarrow
from tasks.reports.formatting import format_iso_utc
from tasks.reports.sanitizing import escape_formula

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pydantic import TypeAdapter


_CSV_ROWS: Final = 2_000
"""Rows of a table that are rendered at once: a table of a large run has hundreds of thousands."""
_PARQUET_ROWS: Final = 5_000
"""The same, for a row group of a Parquet file."""
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
    tables = build_tables(report)
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


def _replace_surrogates(value: Any) -> Any:  # noqa: ANN401 - other values stay
    """Replace lone surrogates, which cannot be encoded as UTF-8."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def render_csv(row_type: type[Row], rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield rows as CSV: UTF-8, CRLF (RFC 4180), missing values are empty, datetimes are ISO 8601 in UTC."""
    dtypes = find_column_dtypes(row_type)
    escaped: dict[str, str] = {}  # machines of a fleet are alike: most texts are there more than once

    def render_value(value: Any, dtype: str) -> object:  # noqa: ANN401 - of any column
        if dtype == "string" and value is not None:
            if value not in escaped:
                escaped[value] = escape_formula(_replace_surrogates(value))
            return escaped[value]
        if dtype.startswith("datetime") and value is not None:
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return "" if value is None or value != value else value  # noqa: PLR0124 - no number is missing, too

    for first in range(0, max(1, len(rows)), _CSV_ROWS):
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        if not first:
            writer.writerow(dtypes)
        for row in rows[first : first + _CSV_ROWS]:
            writer.writerow([render_value(getattr(row, name), dtype) for name, dtype in dtypes.items()])
        yield text.getvalue().encode("utf-8")


def render_parquet(row_type: type[Row], rows: Sequence[Row]) -> bytes:
    """Return rows as a Parquet file. pandas reads it as ``build_frame`` makes it."""
    load_pyarrow()
    import pyarrow as pa  # noqa: PLC0415 - loads slowly
    import pyarrow.json as pj  # noqa: PLC0415 - loads slowly
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads slowly

    dtypes = find_column_dtypes(row_type)
    schema = pa.schema([(name, _get_parquet_type(dtype)) for name, dtype in dtypes.items()], _describe_frame(dtypes))
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for first in range(0, len(rows), _PARQUET_ROWS):
            # by JSON: `pyarrow.array` would load pandas, which needs 50 MiB
            lines = _render_lines(rows[first : first + _PARQUET_ROWS], dtypes)
            reading = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
            table = pj.read_json(io.BytesIO(lines), reading, pj.ParseOptions(explicit_schema=schema))
            # to load what converts tables takes longer than to write one
            writer.write_table(table if table.schema.equals(schema) else table.cast(schema))
    return buffer.getvalue()


def _render_lines(rows: Sequence[Row], dtypes: Mapping[str, str]) -> bytes:
    """Return rows as lines of JSON. Numbers that are not finite are missing."""

    def convert(value: Any) -> object:  # noqa: ANN401 - of any column
        match value:
            case datetime():
                return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
            case float():
                return value if math.isfinite(value) else None
            case _:
                return _replace_surrogates(value)

    lines = (json.dumps({name: convert(getattr(row, name)) for name in dtypes}) for row in rows)
    return "\n".join(lines).encode("ascii")


def _get_parquet_type(dtype: str) -> "pa.DataType":
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    types = {"string": pa.large_string(), "Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}
    return types.get(dtype, pa.timestamp("us", tz="UTC"))


def _describe_frame(dtypes: Mapping[str, str]) -> dict[str, str]:
    """Return what a Parquet file says to pandas of the types of its columns.

    https://pandas.pydata.org/docs/development/developer.html#storing-pandas-dataframe-objects-in-apache-parquet-format
    """
    kinds = {"string": "unicode", "boolean": "bool", "Int64": "int64", "Float64": "float64"}
    columns = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": kinds.get(dtype, "datetimetz"),
            "numpy_type": dtype.replace(", UTC", ""),
            "metadata": None if dtype in kinds else {"timezone": "UTC"},
        }
        for name, dtype in dtypes.items()
    ]
    about = {"index_columns": [], "column_indexes": [], "columns": columns, "pandas_version": "1.0.0"}
    return {"pandas": json.dumps(about)}


_ADAPTERS: Final[dict[type, "TypeAdapter[Any]"]] = {}


def build_row_json(row: object) -> dict[str, Any]:
    """Return a row as JSON data: names as the API writes them, times in UTC, None for what is not known."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - loads slowly

    row_type = type(row)
    adapter = _ADAPTERS.get(row_type) or _ADAPTERS.setdefault(row_type, TypeAdapter(row_type))
    data: dict[str, Any] = adapter.dump_python(row, mode="json", by_alias=True)
    return data


def iterate_csv_rows(row_type: type, rows: Iterable[object]) -> Iterator[list[object]]:
    """Yield the names of the columns, then the values of each row, for ``csv.writer``.

    A row within a row has its columns there, with its field's name before theirs: ``last_run_state``. Lists are one
    text, with "; " between. Text that a spreadsheet would execute is escaped.
    """
    yield list(list_kinds(row_type))
    columns = []
    for _, field, values in read_columns(row_type, list(rows)):
        if field.kind not in {"integer", "number", "boolean"}:
            # Machines of a fleet are alike: most texts of a column are written once.
            written = {value: _build_csv_value(value) for value in set(values)} if field.kind != "map" else {}
            columns.append([_build_csv_value(value) if field.kind == "map" else written[value] for value in values])
        else:
            columns.append(["" if value is None else value for value in values])
    yield from map(list, zip(*columns, strict=True))


def _build_csv_value(value: Any) -> object:  # noqa: ANN401 - of any column
    match value:
        case None:
            return ""
        case Enum():
            return value.value
        case datetime():
            return format_iso_utc(value)
        case tuple():
            return escape_formula("; ".join(value))
        case Mapping():
            return escape_formula("; ".join(f"{key}={text}" for key, text in value.items()))
        case _:
            return escape_formula(value)


def build_arrow_array(values: Sequence[Any], arrow_type: "pa.DataType") -> "pa.Array":
    """Return values of a column as an Arrow array. Lone surrogates in a machine's text are replaced."""
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    try:
        return pa.array(values, arrow_type)
    except UnicodeEncodeError:
        clean = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
        return pa.array(clean, arrow_type)


def build_arrow_kinds(kinds: Mapping[str, ColumnKind]) -> "pa.Schema":
    """Return columns with their Arrow types."""
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    return pa.schema([(name, _get_arrow_type(kind)) for name, kind in kinds.items()])


def _get_arrow_type(kind: ColumnKind) -> "pa.DataType":
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "map": pa.map_(pa.string(), pa.string()),
        "texts": pa.list_(pa.string()),
    }
    return types.get(kind, pa.string())
