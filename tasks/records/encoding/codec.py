"""Converts model objects to JSON documents and back, without loss.

fleetpatch has its own encoder, because pydantic's serializer fails on lone surrogates in untyped data and writes
infinity as null. pydantic's core decodes: it checks every value against the type hints of the model.

Guarantees:
- ``decode(type(item), encode(item)) == item`` for every type in tasks/domain/model.py and for journal entries.
  Datetimes are the same instant, in UTC. Untyped data (a run's request, an entry's detail) becomes JSON data: tuples
  become lists, keys become strings.
- Documents are plain ASCII: NULs and lone surrogates are escaped, so every database can store them. (Two surrogates
  that form a pair become one character.)
- An unknown key is ignored and a missing key gets its default, so a newer minor version can add fields without a
  migration. An unknown state is an error: a guess would make a report wrong.
"""

import json
import math
from collections.abc import Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic_core import SchemaValidator, ValidationError
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

from tasks.domain.errors import RecordsError

# pydantic itself would build the same from the same hints. To load it and let it do that takes longer than to read a
# run.

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


T = TypeVar("T")


def encode(item: object) -> str:
    """Return a model object as a JSON document.

    Raises:
        RecordsError: the object contains a datetime without a zone, or a value that JSON cannot represent.
    """
    return json.dumps(_to_json_value(item), allow_nan=False, separators=(",", ":"))


def decode(kind: type[T], document: str) -> T:
    """Return the model object of a document.

    Raises:
        RecordsError: the document is not of that kind, or contains a state that this version does not know.
    """
    try:
        value: T = build_validator(kind).validate_python(json.loads(document))  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _build_decode_error(kind, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    except RecursionError as error:
        raise _build_decode_error(kind, "it nests too deeply") from error
    except ValueError as error:
        raise _build_decode_error(kind, f"it isn't JSON: {error}") from error
    return value


def _build_decode_error(kind: type, reason: str) -> RecordsError:
    return RecordsError(
        f"a stored {kind.__name__} can't be read: {reason}",
        hint="It was written by a newer fleetpatch, or changed by hand: upgrade, or restore a backup.",
    )


@cache
def list_field_names(kind: type) -> tuple[str, ...]:
    """Return the names of a data class's fields."""
    return tuple(field.name for field in fields(kind))


_PLAIN_TYPES = frozenset({str, int, bool, type(None)})


def _to_json_value(value: object) -> object:  # noqa: C901, PLR0911  one line for each kind of value
    if type(value) in _PLAIN_TYPES:  # most are, and the other questions take longer
        return value
    match value:
        case Enum():
            return _to_json_value(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            if value.utcoffset() is None:
                message = f"the datetime {value.isoformat()} has no zone"
                raise RecordsError(message, hint="Every datetime has to be aware.")
            return value.astimezone(UTC).isoformat()
        case list() | tuple():
            return [item if type(item) in _PLAIN_TYPES else _to_json_value(item) for item in value]
        case _ if is_dataclass(value):
            parts = [(name, getattr(value, name)) for name in list_field_names(type(value))]  # type: ignore[arg-type]  # it is no class
            return {name: part if type(part) in _PLAIN_TYPES else _to_json_value(part) for name, part in parts}
        case Mapping():
            return {str(key): _to_json_value(item) for key, item in value.items()}
        case Set():
            return sorted((_to_json_value(item) for item in value), key=str)
        case PurePath():
            return str(value)
        case _:
            raise RecordsError(
                f"a value of type {type(value).__name__} can't be stored",
                hint="Requests and details are JSON data only: text, numbers, true, false, null, lists and objects.",
            )
