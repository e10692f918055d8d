"""Writes rows for programs: JSON, CSV, Arrow. The columns' names and types are those of the row's class."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from tasks.domain.rows import ColumnKind, list_kinds, read_columns
from tasks.reports.export.data_frames import escape_formula
from tasks.reports.formatting import format_iso_utc

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import TypeAdapter

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
