"""Validates a map of a file against its form, and describes each problem: the place, the value and the hint."""

from typing import TypeVar

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from inventory.files.problems import ProblemCollector
from inventory.files.source_location import LocatedData
from inventory.schema import validation

FormType = TypeVar("FormType", bound=BaseModel)

_TYPE_NAMES = {
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
_LENGTH_ERRORS = {
    "string_too_short": ("this is empty", "Give a value, or leave the key out."),
    "too_short": ("this list is empty", "Give an entry, or leave the key out."),
    "string_too_long": ("this text is too long", "Give at most {max_length} characters."),
    "too_long": ("this list is too long", "Give at most {max_length} entries."),
}
_BOUND_PHRASES = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def validate_form(form: type[FormType], located: LocatedData, problems: ProblemCollector) -> FormType | None:
    """Validate one map with ``inventory.schema.validation.validate_mapping`` and the texts for configurations."""
    return validation.validate_mapping(form, located, problems, _ERROR_DESCRIPTIONS)


def _describe_error(form: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":  # an error from build_validation_error()
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return validation.describe_unknown_key(
            str(detail["loc"][-1]), validation.find_known_keys(form, detail["loc"][:-1])
        )
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind in {"enum", "literal_error"}:
        return validation.describe_invalid_choice(given, str(context["expected"]))
    if kind in _LENGTH_ERRORS:
        message, hint = _LENGTH_ERRORS[kind]
        return message, hint.format(**context)
    return _describe_wrong_value(kind, validation.render_value(given), context, detail["msg"])


def _describe_wrong_value(kind: str, shown: str, context: dict[str, object], default_message: str) -> tuple[str, str]:
    if kind in _BOUND_PHRASES:
        return f"{shown} is out of range", f"Give {_BOUND_PHRASES[kind]} {next(iter(context.values()))}."
    if kind in _TYPE_NAMES:
        return f"{shown} is not {_TYPE_NAMES[kind]}", f"Give {_TYPE_NAMES[kind]}."
    if kind == "string_pattern_mismatch":
        return f"{shown} is no usable name", "Use letters, digits, blanks, '.', '_' and '-'."
    if kind == "value_error":  # the form's own message names the key
        return default_message.removeprefix("Value error, "), "Correct it."
    return f"{shown}: {default_message}", "Correct the value."


def _list_required_keys(form: type[BaseModel]) -> str:
    return ", ".join(f"`{key}:`" for key, field in form.model_fields.items() if field.is_required()) or "its keys"


_ERROR_DESCRIPTIONS = validation.ValidationMessages(_describe_error, _list_required_keys)
