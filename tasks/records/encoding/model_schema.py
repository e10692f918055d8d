"""Builds what pydantic's core needs to check a document of the model: a schema for each type hint that the model has.

pydantic itself would build the same from the same hints. To load it and let it do that takes longer than to read a run.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic_core import SchemaValidator
from pydantic_core.core_schema import (
    CoreSchema,
    DataclassField,
    any_schema,
    bool_schema,
    dataclass_args_schema,
    dataclass_field,
    dataclass_schema,
    datetime_schema,
    dict_schema,
    enum_schema,
    float_schema,
    frozenset_schema,
    int_schema,
    nullable_schema,
    str_schema,
    tuple_schema,
    with_default_schema,
)

_SIMPLE: Final[Mapping[Any, CoreSchema]] = {
    str: str_schema(),
    bool: bool_schema(),
    int: int_schema(),
    float: float_schema(),
    datetime: datetime_schema(),
    object: any_schema(),
}


@cache
def build_validator(kind: Any) -> SchemaValidator:  # noqa: ANN401 - any hint of the model
    """Return what checks JSON data by a type hint, and makes the object of it.

    Raises:
        TypeError: no field of the model has had such a hint yet.
    """
    return SchemaValidator(_build_schema(kind))


@cache
def _build_schema(hint: Any) -> CoreSchema:  # noqa: ANN401 - the same
    """Return the schema of a type hint. TypeError: see ``build_validator``."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return _build_dataclass_schema(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return enum_schema(hint, list(hint), sub_type="str")
    return _build_generic_schema(hint)


def _build_generic_schema(hint: Any) -> CoreSchema:  # noqa: ANN401 - the same
    origin, arguments = get_origin(hint), get_args(hint)
    items = [_build_schema(argument) for argument in arguments if argument not in (NoneType, Ellipsis)]
    if origin in (Union, UnionType) and NoneType in arguments and len(items) == 1:
        return nullable_schema(items[0])
    if origin is tuple:
        return tuple_schema(items, variadic_item_index=0 if arguments[-1] is Ellipsis else None)
    if origin is frozenset:
        return frozenset_schema(items[0])
    if origin in (dict, Mapping):
        return dict_schema(*items)
    raise TypeError(f"the model has no other field like {hint} yet: add it to {__name__}")


def _build_dataclass_schema(kind: type) -> CoreSchema:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    arguments = dataclass_args_schema(kind.__name__, [_build_field(field, hints[field.name]) for field in fields(kind)])
    return dataclass_schema(
        kind, arguments, names, slots="__slots__" in vars(kind), post_init=hasattr(kind, "__post_init__")
    )


def _build_field(field: Field[Any], hint: Any) -> DataclassField:  # noqa: ANN401 - the same
    schema = _build_schema(hint)
    if field.default is not MISSING:
        schema = with_default_schema(schema, default=field.default)
    elif field.default_factory is not MISSING:
        schema = with_default_schema(schema, default_factory=field.default_factory)
    return dataclass_field(field.name, schema, kw_only=field.kw_only is True)
