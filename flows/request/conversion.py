"""Turns a request into a data class of the domain, field by field."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DomainType = TypeVar("DomainType", bound="DataclassInstance")


def convert_request(request: BaseModel, kind: type[DomainType], **given: Any) -> DomainType:  # noqa: ANN401
    """Return a data class with the fields of the same name in a request.

    A list becomes a tuple. ``x_seconds`` is filled from ``x_seconds`` or ``x_minutes``.

    Args:
        request: the model of the request.
        kind: the data class. Each of its fields is in the request or in ``given``.
        given: fields that do not follow from one field of the request.
    """
    return kind(
        **{each.name: _read_field(request, each.name) for each in fields(kind) if each.name not in given}, **given
    )


def _read_field(request: BaseModel, name: str) -> object:
    minutes = f"{name.removesuffix('_seconds')}_minutes"
    if name.endswith("_seconds") and minutes in type(request).model_fields:
        return getattr(request, minutes) * 60
    value = getattr(request, name)
    return tuple(value) if isinstance(value, list) else value
