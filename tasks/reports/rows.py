"""Writes rows for programs: JSON, CSV, Arrow. The columns' names and types are those of the row's class."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from tasks.domain.rows import ColumnKind, Field, list_fields
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
    fields = list_fields(row_type)
    yield list(_iterate_csv_names(fields))
    for row in rows:
        yield list(_iterate_csv_values(fields, row))


def _iterate_csv_names(fields: Sequence[Field]) -> Iterator[str]:
    for field in fields:
        if field.kind == "row" and field.row_type is not None:
            yield from (f"{field.name}_{name}" for name in _iterate_csv_names(list_fields(field.row_type)))
        elif field.kind != "rows":
            yield field.name


def _iterate_csv_values(fields: Sequence[Field], row: object | None) -> Iterator[object]:
    for field in fields:
        value = getattr(row, field.name) if row is not None else None
        if field.kind == "row" and field.row_type is not None:
            yield from _iterate_csv_values(list_fields(field.row_type), value)
        elif field.kind != "rows":
            yield _build_csv_value(value)


def _build_csv_value(value: Any) -> object:  # noqa: ANN401 - of any column
    if isinstance(value, dict):
        value = tuple(f"{key}={text}" for key, text in value.items())
    if isinstance(value, tuple):
        value = "; ".join(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return format_iso_utc(value)
    return "" if value is None else escape_formula(value) if isinstance(value, str) else value


def build_arrow_schema(row_type: type) -> "pa.Schema":
    """Return the columns of a row class with their Arrow types. Rows within a row are left out."""
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    return pa.schema([(field.name, _get_arrow_type(field.kind)) for field in _list_flat_fields(row_type)])


def build_arrow_table(row_type: type, rows: Sequence[object]) -> "pa.Table":
    """Return rows as an Arrow table. Lone surrogates in a machine's text are replaced."""
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    arrays = []
    for field in _list_flat_fields(row_type):
        values = [getattr(row, field.name) for row in rows]
        if field.kind == "map":
            values = [None if value is None else list(value.items()) for value in values]
        try:
            arrays.append(pa.array(values, _get_arrow_type(field.kind)))
        except UnicodeEncodeError:
            clean = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
            arrays.append(pa.array(clean, _get_arrow_type(field.kind)))
    return pa.Table.from_arrays(arrays, schema=build_arrow_schema(row_type))


def _list_flat_fields(row_type: type) -> tuple[Field, ...]:
    return tuple(field for field in list_fields(row_type) if field.kind not in {"row", "rows"})


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
