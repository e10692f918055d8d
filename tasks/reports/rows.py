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
    yield [name for name, _, _ in _iterate_flat_fields(row_type)]
    for row in rows:
        yield list(_iterate_csv_values(fields, row))


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
    """Return the columns of a row class with their Arrow types: a row within a row has its columns there, as in CSV."""
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    return pa.schema([(name, _get_arrow_type(field.kind)) for name, _, field in _iterate_flat_fields(row_type)])


def build_arrow_table(row_type: type, rows: Sequence[object]) -> "pa.Table":
    """Return rows as an Arrow table, with the columns of ``build_arrow_schema``.

    Lone surrogates in a machine's text are replaced.
    """
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    arrays = []
    for _, path, field in _iterate_flat_fields(row_type):
        values: list[Any] = list(rows)
        for name in path:
            values = [None if value is None else getattr(value, name) for value in values]
        if field.kind == "map":
            values = [None if value is None else list(value.items()) for value in values]
        try:
            arrays.append(pa.array(values, _get_arrow_type(field.kind)))
        except UnicodeEncodeError:
            clean = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
            arrays.append(pa.array(clean, _get_arrow_type(field.kind)))
    return pa.Table.from_arrays(arrays, schema=build_arrow_schema(row_type))


def _iterate_flat_fields(row_type: type) -> Iterator[tuple[str, tuple[str, ...], Field]]:
    """Yield the name of each column, the fields that lead to its value, and the last of them."""
    for field in list_fields(row_type):
        if field.kind == "row" and field.row_type is not None:
            for name, path, inner in _iterate_flat_fields(field.row_type):
                yield f"{field.name}_{name}", (field.name, *path), inner
        elif field.kind != "rows":
            yield field.name, (field.name,), field


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
