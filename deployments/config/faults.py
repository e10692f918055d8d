"""Checks a map of a file against its form, and says what is wrong: the place, what stands there, the remedy."""

from enum import Enum
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inventory.checking import unknown_key
from inventory.places import KeyPath, Located, Problems, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "path_type": "a path",
}
_SIZES = {
    "string_too_short": ("this is empty", "Give a value, or leave the key out."),
    "too_short": ("this list is empty", "Give an entry, or leave the key out."),
    "string_too_long": ("this text is too long", "Give at most {max_length} characters."),
    "too_long": ("this list is too long", "Give at most {max_length} entries."),
}
_BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def check(form: type[Model], located: Located, problems: Problems) -> Model | None:
    """Check one map.

    Args:
        form: what it should be.
        located: the map, with its places.
        problems: takes every fault.

    Returns:
        The checked map without the keys that were at fault, so that what is right can be checked further; None when
        nothing usable is left.
    """
    data = located.data
    if not isinstance(data, dict):
        keys = ", ".join(f"`{key}:`" for key, field in form.model_fields.items() if field.is_required())
        problems.add(located.at(), f"a map is wanted here, not {_kind(data)}", f"Write {keys or 'its keys'} under it.")
        return None
    try:
        return form.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        message, hint = _explained(form, detail)
        place = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
        problems.add(located.at(place), message, hint)
    at_fault = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        return form.model_validate({key: value for key, value in data.items() if key not in at_fault})
    except ValidationError:
        return None  # what it can't do without was at fault, and that was noted above


def _explained(form: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":  # what fault() makes
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return unknown_key(str(detail["loc"][-1]), _keys_at(form, detail["loc"][:-1]))
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind in {"enum", "literal_error"}:
        return _not_one_of(given, str(context["expected"]))
    if kind in _SIZES:
        message, hint = _SIZES[kind]
        return message, hint.format(**context)
    return _wrong_value(kind, _shown(given), context, detail["msg"])


def _wrong_value(kind: str, shown: str, context: dict[str, object], otherwise: str) -> tuple[str, str]:
    if kind in _BOUNDS:
        return f"{shown} is out of range", f"Give {_BOUNDS[kind]} {next(iter(context.values()))}."
    if kind in _KINDS:
        return f"{shown} is not {_KINDS[kind]}", f"Give {_KINDS[kind]}."
    if kind == "string_pattern_mismatch":
        return f"{shown} is no usable name", "Use letters, digits, blanks, '.', '_' and '-'."
    if kind == "value_error":  # the form's own words say what it is about
        return otherwise.removeprefix("Value error, "), "Correct it."
    return f"{shown}: {otherwise}", "Correct the value."


def _not_one_of(given: object, expected: str) -> tuple[str, str]:
    options = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = did_you_mean(str(given), options) if isinstance(given, str) else ""
    return f"{_shown(given)} is not one of {', '.join(options)}", f"{near}Write one of {', '.join(options)}."


def _keys_at(form: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that a form knows at a path inside it."""
    current = form
    for step in path:
        field = current.model_fields.get(step) if isinstance(step, str) else None
        inner = _forms_in(field.annotation) if field else []
        current = inner[0] if inner else current
    return list(current.model_fields)


def _forms_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [form for part in get_args(annotation) for form in _forms_in(part)]


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    names = (("a map", dict), ("a list", list), ("text", str))
    return next((name for name, kind in names if isinstance(value, kind)), "a value")


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)) or value is None:
        return _kind(value)
    return repr(str(value.value if isinstance(value, Enum) else value)[:80])
