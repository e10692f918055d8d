"""Validates data against the schema, and describes each problem: the place, the value and the hint."""

from enum import Enum
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from inventory.files.problems import KeyPath, LocatedData, ProblemCollector, did_you_mean

_SECRET_KEY_WORDS = ("password", "passwd", "passphrase", "secret", "become_pass", "sudo_pass")
_SECRET_KEYS = frozenset({"credential", "privilege_password", "notify", "target"})
"""Keys whose values are not repeated, nor those below them: a secret may stand there by mistake, or in a URL."""


class StrictModel(BaseModel):
    """Base class of maps that reject unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)

_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "a map",
    "model": "a map",
    "path": "a path",
}
"""Names of types by the first word of pydantic's kind of error."""
_LENGTH_ERRORS = {
    "string_too_short": ("this is empty", "Give a value, or leave the key out."),
    "too_short": ("this list is empty", "Give an entry, or leave the key out."),
    "string_too_long": ("this text is too long", "Give at most {max_length} characters."),
    "too_long": ("this list is too long", "Give at most {max_length} entries."),
}
_VALUE_ERRORS = {
    "finite_number": ("is no number of minutes or seconds", "Give a finite number."),
    "string_pattern_mismatch": ("is no usable name", "Use letters, digits, blanks, '.', '_' and '-'."),
    "no_reference": (
        "is no reference",
        "A URL or a key never stands here: write where it is, as env:NAME, file:/path or block:NAME.",
    ),
}
"""Message after the value, and hint."""
_BOUND_PHRASES = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def validate_mapping(
    model: type[Model], located: LocatedData, problems: ProblemCollector, expected_keys: str = ""
) -> Model | None:
    """Validate one map of an inventory, of a configuration, or of another file with a model.

    ``located``: the map, with its places.
    ``expected_keys``: names the expected keys for the hint if it is no map; "": the first keys of the model.

    Returns:
        The validated map without its invalid keys, so that later checks can use the valid keys. None if nothing usable
        is left.
    """
    data = located.data
    if not isinstance(data, dict):
        by_need = sorted(model.model_fields, key=lambda key: not model.model_fields[key].is_required())
        some_keys = expected_keys or ", ".join(f"`{key}:`" for key in by_need[:3])
        hint = f"Write {some_keys} under it."
        problems.add(located.locate(), f"a map is wanted here, not {describe_type(data)}", hint)
        return None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        location = tuple(step for step in detail["loc"] if step != "[key]")  # pydantic's mark for a key, not a value
        problems.add(
            located.locate(location[:-1] if detail["type"] == "missing" else location), *_describe_error(model, detail)
        )
    at_fault = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        return model.model_validate({key: value for key, value in data.items() if key not in at_fault})
    except ValidationError:
        return None  # a required key is invalid; the problem is already in the list


def describe_unknown_key(key: str, known: list[str]) -> tuple[str, str]:
    """Return message and hint for an unknown key."""
    key = key[:80]
    if any(word in key.lower() for word in _SECRET_KEY_WORDS):
        hint = "A secret never stands in an inventory: use `credential` or `privilege_password` with a reference "
        return f"unknown key {key!r}", f"{hint}such as env:NAME."
    return f"unknown key {key!r}", f"{did_you_mean(key, known)}Known keys: {', '.join(known)}."


def _describe_error(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given_value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":  # an error from build_validation_error()
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return describe_unknown_key(str(detail["loc"][-1]), _find_known_keys(model, detail["loc"][:-1]))
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind in {"enum", "literal_error"}:
        expected = str(context["expected"])
        options = expected.replace(" or ", ", ").replace("'", "").split(", ")
        near = did_you_mean(str(given_value), options) if isinstance(given_value, str) else ""
        return (
            f"{_render_value(given_value)} is not one of {', '.join(options)}",
            f"{near}Write one of {', '.join(options)}.",
        )
    if kind in _LENGTH_ERRORS:
        message, hint = _LENGTH_ERRORS[kind]
        return message, hint.format(**context)
    if kind == "string_pattern_mismatch" and "notify" in detail["loc"]:
        kind = "no_reference"
    value_text = _render_value(given_value) if _SECRET_KEYS.isdisjoint(detail["loc"]) else describe_type(given_value)
    return _describe_wrong_value(kind, value_text, context, detail["msg"])


def _describe_wrong_value(kind: str, shown: str, context: dict[str, object], default_message: str) -> tuple[str, str]:
    if kind in _VALUE_ERRORS:
        message, hint = _VALUE_ERRORS[kind]
        return f"{shown} {message}", hint
    if kind in _BOUND_PHRASES:
        return f"{shown} is out of range", f"Give {_BOUND_PHRASES[kind]} {next(iter(context.values()))}."
    if kind == "value_error":  # the model's own message names the key
        return default_message.removeprefix("Value error, "), "Correct it."
    if (type_name := _TYPE_NAMES.get(kind.partition("_")[0])) is not None:
        return f"{shown} is not {type_name}", f"Give {type_name}."
    return f"{shown}: {default_message}", "Correct the value."


def _find_known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys of a model at a path in it."""
    current = model
    for step in path:
        field = current.model_fields.get(step) if isinstance(step, str) else None
        inner = _find_models(field.annotation) if field else []
        current = inner[0] if inner else current
    return list(current.model_fields)


def _find_models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _find_models(part)]


def describe_type(value: object) -> str:
    """Return the type of a value in words, without the value."""
    if value is None:
        return "nothing"
    names = (("a map", dict), ("a list", list), ("text", str))
    return next((name for name, kind in names if isinstance(value, kind)), "a value")


def _render_value(value: object) -> str:
    """Return a value for a message."""
    if isinstance(value, (dict, list)) or value is None:
        return describe_type(value)
    return repr(str(value.value if isinstance(value, Enum) else value)[:80])
