"""The base classes of requests: strict models whose errors name the wrong key."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from inventory.errors import InventoryError
from inventory.resource_limits import ResourceKind
from inventory.schema.value_types import MachineName, build_validation_error
from inventory.scope import Scope
from tasks.domain.states import Classification

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DomainType = TypeVar("DomainType", bound="DataclassInstance")


class FormModel(BaseModel):
    """A form of the Prefect UI, a part of a file, or an argument of a Python call. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_boolean_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false for a number. Otherwise `minutes: true` would be one minute."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
            raise ValueError("true or false is no number")
        return value

    @classmethod
    def build_file_schema(cls, title: str) -> dict[str, Any]:
        """Return the JSON Schema of a file of this form, for editors."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **cls.model_json_schema(),
            "title": f"fleetpatch {title}",
        }


def convert_request(request: FormModel, kind: type[DomainType], **given: Any) -> DomainType:  # noqa: ANN401
    """Return a data class with the fields of the same name in a request.

    A list becomes a tuple. ``x_seconds`` is filled from ``x_seconds`` or ``x_minutes``.

    Each field of the data class is in the request or in ``given``.
    """
    return kind(
        **{field.name: _read_field(request, field.name) for field in fields(kind) if field.name not in given}, **given
    )


def _read_field(request: FormModel, name: str) -> object:
    minutes = f"{name.removesuffix('_seconds')}_minutes"
    if name.endswith("_seconds") and minutes in type(request).model_fields:
        given_minutes = getattr(request, minutes)
        return None if given_minutes is None else given_minutes * 60
    value = getattr(request, name)
    return tuple(value) if isinstance(value, list) else value


ReportFormat = Literal["html", "csv", "parquet", "json"]
Mask = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


def _check_path(path: Path) -> Path:
    if "\x00" in str(path):
        raise ValueError("a path holds no NUL")
    return path


CheckedPath = Annotated[Path, AfterValidator(_check_path)]
OnlyMachines = Annotated[
    list[MachineName],
    Field(
        max_length=10_000,
        title="Only These Machines",
        description="Of the scope, only these machines, by name. Empty: all of the scope.",
    ),
]
ShardId = Annotated[
    str,
    Field(
        max_length=300,
        description="Set by fleetpatch itself: the part of a whole run that this run carries out at its site.",
    ),
]
ShardLimits = Annotated[
    dict[ResourceKind, dict[str, Annotated[int, Field(ge=1)]]],
    Field(
        description="Set by fleetpatch itself: how many machines of this part may use at once what other parts of the "
        "whole run use too."
    ),
]
ReportFormats = Annotated[
    list[ReportFormat],
    Field(description="Formats of the report: a page (html), tables (csv, parquet), everything for programs (json)."),
]
Classifications = Annotated[
    list[Classification], Field(description="Kinds of updates. Empty: only those that are included by name.")
]
IncludeMasks = Annotated[
    list[Mask], Field(max_length=500, description="Masks of additional updates, e.g. `linux-image-*` or `nginx=1.22*`.")
]
ExcludeMasks = Annotated[
    list[Mask],
    Field(max_length=500, description="Masks of updates that are never installed. They override everything else."),
]


def validate_scope(value: str) -> str:
    """Return a scope expression without blanks around it, for models of files. An error has a hint."""
    try:
        Scope.parse(value)
    except InventoryError as error:
        raise build_validation_error(error.message, error.hint) from error
    return value.strip()


class ScopeRequest(FormModel):
    """The machines of a request."""

    scope: str = Field(
        min_length=1,
        max_length=2000,
        description="Which machines, e.g. `env=prod,os=linux,!ring=canary,name=web-*`; `*` is all of them. "
        "Resolved when the run starts.",
    )
    inventory: CheckedPath | None = Field(
        default=None,
        description="Inventory file or folder on the machine that runs the flow. "
        "Empty: $FLEETPATCH_INVENTORY, ./fleet.yaml, or the one in the user's configuration.",
    )
