"""What a request asks for beyond the usual, for the last question before it starts. Pure.

It is generated from the model: a field that is added to a request is in the question from then on.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel

from inventory.data_class import dataclass
from tasks.rules.redaction import redact_request

MAX_ENTRIES: Final = 50
"""Entries of a list that are shown. The others are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value of a request that is not its default."""

    path: str  # the field: ``waves.failure_budget_percent``.
    title: str  # the field in words: "Waves: failure budget percent"
    value: str


def list_differences(request: BaseModel) -> tuple[Difference, ...]:
    """Return each value of a request that is not the default of its field, in the order of the model.

    A field without a default differs always. Secrets in URLs of hooks are hidden.
    """
    return tuple(_iterate(request, None, "", ""))


def _iterate(request: BaseModel, usual: BaseModel | None, above: str, heading: str) -> Iterator[Difference]:
    for name, info in type(request).model_fields.items():
        value = getattr(request, name)
        default = (
            getattr(usual, name)
            if usual is not None
            else info.get_default(call_default_factory=True, validated_data={})
        )
        path, title = f"{above}{name}", (info.title or name.replace("_", " ")).capitalize()
        if isinstance(value, BaseModel) and isinstance(default, type(value)):
            yield from _iterate(value, default, f"{path}.", f"{heading}{title}: ")
        elif value != default:
            safe_value = redact_request(request.model_dump(mode="json", include={name})[name])
            yield Difference(
                path, f"{heading}{title[:1].lower()}{title[1:]}" if heading else title, _describe(safe_value)
            )


def _describe(value: object) -> str:
    """Return a value of JSON in words."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None | "" | []:
            return "none"
        case float():
            return f"{value:g}"
        case list():
            more = [f"and {len(value) - MAX_ENTRIES} more"] if len(value) > MAX_ENTRIES else []
            return ", ".join([*map(_describe, value[:MAX_ENTRIES]), *more])
        case Mapping():
            return "; ".join(
                f"{key}: {_describe(entry)}" for key, entry in value.items() if entry not in (None, "", [])
            )
        case _:
            return str(value)
