"""Checks a map of a file against its form, and says what is wrong: the place, what stands there, the remedy."""

from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from inventory import checking
from inventory.places import Located, Problems

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
    """Check one map, as ``inventory.checking.check`` does, in the words of configurations."""
    return checking.check(form, located, problems, _WORDS)


def _explained(form: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":  # what fault() makes
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return checking.unknown_key(str(detail["loc"][-1]), checking.keys_at(form, detail["loc"][:-1]))
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind in {"enum", "literal_error"}:
        return checking.not_one_of(given, str(context["expected"]))
    if kind in _SIZES:
        message, hint = _SIZES[kind]
        return message, hint.format(**context)
    return _wrong_value(kind, checking.shown(given), context, detail["msg"])


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


def _needed_keys(form: type[BaseModel]) -> str:
    return ", ".join(f"`{key}:`" for key, field in form.model_fields.items() if field.is_required()) or "its keys"


_WORDS = checking.Words(_explained, _needed_keys)
