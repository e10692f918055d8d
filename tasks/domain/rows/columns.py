"""The columns of the rows that people and programs read.

A row is a class of this package: one field for each column, and each field described once, in its annotation::

    @row
    class LastRun:
        started_at: Annotated[datetime, Column("When the machine's part began.", heading="started")]

Every surface reads this description. The field's name is the column's name in SQL, CSV, Parquet and frames. JSON and
the API write it in camel case, or with Azure's name, and the description is the text in OpenAPI. Tables of the terminal
and of pages take their headings from here. pydantic serializes a row, so the row's class is the API's model as well.
"""

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from inventory.data_class import dataclass

ColumnKind = Literal["text", "integer", "number", "boolean", "time", "map", "texts", "row", "rows"]
"""The type of a column: "map" is text by text, "texts" a list of text, "row" and "rows" are rows of another class."""

ColumnUnit = Literal["", "count", "seconds", "bytes", "share"]
"""The unit of a number: "" for a number that only names something, such as a wave."""

Row = TypeVar("Row")

_KINDS: Final[Mapping[type, ColumnKind]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    datetime: "time",
}


@dataclass(frozen=True, slots=True)
class Column:
    """What a row says in one column."""

    description: str  # a sentence for the API's reference and for help texts
    heading: str = ""  # the heading in tables for people; "": the column's name in words
    json_name: str = ""  # the name in JSON and in the API, Azure's where Azure has one; "": see ``Field.json_name``.
    unit: ColumnUnit = ""  # of a number
    is_prose: bool = False  # whether its text is a sentence, which may be on several lines. Names and ids are not.
    is_list_in_json: bool = False  # whether JSON has the value in a list, where Azure allows several

    def __get_pydantic_core_schema__(
        self, value_type: object, handler: Callable[[object], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return how pydantic writes the column."""
        schema = handler(value_type)
        if not self.is_list_in_json:
            return schema
        serialization = {
            "type": "function-plain",
            "function": lambda value: [value],
            "return_schema": {"type": "list", "items_schema": schema},
        }
        return {**schema, "serialization": serialization}

    def __get_pydantic_json_schema__(
        self, core_schema: object, handler: Callable[[object], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the JSON schema of the column, with its description. pydantic calls this for OpenAPI."""
        return {**handler(core_schema), "description": self.description}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a row class."""

    name: str  # the column's name in SQL, CSV, Parquet and frames
    column: Column
    kind: ColumnKind  # the type of its values
    is_optional: bool  # whether a value may be None: not known
    row_type: type | None = None  # the class of the values, if ``kind`` is "row" or "rows"

    @property
    def json_name(self) -> str:
        """The name in JSON: the column's own, else camel case, and ``assessed_at`` becomes ``assessedDateTime``."""
        if self.column.json_name:
            return self.column.json_name
        name = f"{self.name.removesuffix('_at')}_date_time" if self.name.endswith("_at") else self.name
        first, *others = name.split("_")
        return first + "".join(map(str.capitalize, others))

    @property
    def heading(self) -> str:
        """The heading in tables for people."""
        return self.column.heading or self.name.replace("_", " ")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def row(row_type: type[Row]) -> type[Row]:
    """Make a class a row: a frozen dataclass, created by names, that pydantic writes with the columns' JSON names.

    Its times are in UTC, whatever zone they are created with.

    Raises:
        TypeError: a field has no ``Column``, or a type that no surface can show. Two columns have one JSON name.
    """
    row_type.__post_init__ = _convert_times  # type: ignore[attr-defined]
    made = dataclass(frozen=True, kw_only=True, slots=True)(row_type)
    hints = get_type_hints(made, include_extras=True)
    described = tuple(_describe_field(field.name, hints[field.name]) for field in fields(made))  # type: ignore[arg-type]
    json_names = {field.name: field.json_name for field in described}
    if len(set(json_names.values())) < len(json_names):
        raise TypeError(f"{made.__name__}: two columns have the same name in JSON")
    made.__row_fields__ = described  # type: ignore[attr-defined]
    made.__row_times__ = tuple(field.name for field in described if field.kind == "time")  # type: ignore[attr-defined]
    made.__pydantic_config__ = {"alias_generator": json_names.__getitem__, "extra": "forbid"}  # type: ignore[attr-defined]
    return made


def list_fields(row_type: type) -> tuple[Field, ...]:
    """Return the columns of a row class, in their order."""
    described: tuple[Field, ...] = row_type.__row_fields__  # type: ignore[attr-defined]
    return described


def iterate_flat_fields(row_type: type) -> Iterator[tuple[str, tuple[str, ...], Field]]:
    """Yield the name of each column, the fields that lead to its value, and the last of them."""
    for field in list_fields(row_type):
        if field.kind == "row" and field.row_type is not None:
            for name, path, inner in iterate_flat_fields(field.row_type):
                yield f"{field.name}_{name}", (field.name, *path), inner
        elif field.kind != "rows":
            yield field.name, (field.name,), field


def list_kinds(row_type: type) -> Mapping[str, ColumnKind]:
    """Return the columns of a row class in tables, with their types. A row within a row has its columns there."""
    return {name: field.kind for name, _, field in iterate_flat_fields(row_type)}


def read_columns(row_type: type, rows: Sequence[object]) -> Iterator[tuple[str, Field, list[Any]]]:
    """Yield the name of each column of ``list_kinds``, its field, and its values in all rows."""
    for name, path, field in iterate_flat_fields(row_type):
        values: list[Any] = list(map(attrgetter(path[0]), rows))
        for part in path[1:]:
            values = [None if value is None else getattr(value, part) for value in values]
        yield name, field, values


def copy_row(row_type: type[Row], source: object, **others: object) -> Row:
    """Return a row with the values of another object's attributes of the same names, and others."""
    names = (field.name for field in list_fields(row_type) if field.name not in others)
    return row_type(**{name: getattr(source, name) for name in names}, **others)


def _convert_times(instance: object) -> None:
    for name in type(instance).__row_times__:  # type: ignore[attr-defined]
        at = getattr(instance, name)
        if at is not None and at.tzinfo not in {None, UTC}:
            object.__setattr__(instance, name, at.astimezone(UTC))


def _describe_field(name: str, annotation: Any) -> Field:  # noqa: ANN401 - any annotation
    columns = [part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Column)]
    if get_origin(annotation) is not Annotated or len(columns) != 1:
        raise TypeError(f"{name}: a field of a row is annotated with one Column")
    value_type = get_args(annotation)[0]
    is_optional = get_origin(value_type) in {types.UnionType, typing.Union}
    if is_optional:
        (value_type,) = (part for part in get_args(value_type) if part is not type(None))
    kind, row_type = _find_kind(name, value_type)
    return Field(name, columns[0], kind, is_optional, row_type)


def _find_kind(name: str, value_type: Any) -> tuple[ColumnKind, type | None]:  # noqa: ANN401 - any type
    origin, parts = get_origin(value_type), get_args(value_type)
    if origin is tuple and parts[1:] == (...,):
        return ("texts", None) if parts[0] is str else ("rows", parts[0])
    if origin is not None and issubclass(origin, Mapping) and parts == (str, str):
        return "map", None
    if value_type in _KINDS:
        return _KINDS[value_type], None
    if isinstance(value_type, type) and issubclass(value_type, Enum) and issubclass(value_type, str):
        return "text", None
    if isinstance(value_type, type) and hasattr(value_type, "__pydantic_config__"):
        return "row", value_type
    raise TypeError(f"{name}: no surface can show {value_type}")
