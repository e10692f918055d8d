"""Validates data against the schema, and describes each problem: the place, the value and the hint."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inventory.files.problems import ProblemCollector, did_you_mean
from inventory.files.source_location import KeyPath, LocatedData

_SECRET_KEY_WORDS = ("password", "passwd", "passphrase", "secret", "become_pass", "sudo_pass")
_SECRET_KEYS = frozenset({"credential", "privilege_password"})

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ValidationMessages:
    """The texts for the problems of one kind of file.

    Attributes:
        describe_error: returns message and hint for an error of pydantic.
        describe_keys: names some keys of a model, for a map without keys.
    """

    describe_error: Callable[[type[BaseModel], ErrorDetails], tuple[str, str]]
    describe_keys: Callable[[type[BaseModel]], str]


def validate_mapping(
    model: type[Model], located: LocatedData, problems: ProblemCollector, messages: ValidationMessages | None = None
) -> Model | None:
    """Validate one map of an inventory, or of another file with a model.

    Args:
        model: the expected model.
        located: the map, with its places.
        problems: collects all problems.
        messages: the texts for problems; None: the texts for an inventory.

    Returns:
        The validated map without its invalid keys, so that later checks can use the valid keys. None if nothing usable
        is left.
    """
    messages, data = messages or _INVENTORY_MESSAGES, located.data
    if not isinstance(data, dict):
        problems.add(
            located.locate(()),
            f"a map is wanted here, not {describe_type(data)}",
            f"Write {messages.describe_keys(model)} under it.",
        )
        return None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        message, hint = messages.describe_error(model, detail)
        problems.add(located.locate(_find_key_path(detail)), message, hint)
    at_fault = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        return model.model_validate({key: value for key, value in data.items() if key not in at_fault})
    except ValidationError:
        return None  # a required key is invalid; the problem is already in the list


def _find_key_path(detail: ErrorDetails) -> KeyPath:
    location = tuple(step for step in detail["loc"] if step != "[key]")  # pydantic's mark for a key instead of a value
    return location[:-1] if detail["type"] == "missing" else location


def describe_unknown_key(key: str, known: list[str]) -> tuple[str, str]:
    """Return message and hint for an unknown key."""
    key = key[:80]
    if any(word in key.lower() for word in _SECRET_KEY_WORDS):
        hint = "A secret never stands in an inventory: use `credential` or `privilege_password` with a reference "
        return f"unknown key {key!r}", f"{hint}such as env:NAME."
    return f"unknown key {key!r}", f"{did_you_mean(key, known)}Known keys: {', '.join(known)}."


def _describe_error(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return describe_unknown_key(str(detail["loc"][-1]), find_known_keys(model, detail["loc"][:-1]))
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind == "enum":
        return describe_invalid_choice(given, str(context["expected"]))
    what = describe_type(given) if detail["loc"] and detail["loc"][0] in _SECRET_KEYS else render_value(given)
    return _describe_wrong_value(kind, what, context, detail["msg"])


def _describe_wrong_value(kind: str, value_text: str, context: dict[str, object], fallback: str) -> tuple[str, str]:
    wanted = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "text",
        "list": "a list",
        "dict": "a map",
        "model": "a map",
    }
    first = kind.partition("_")[0]
    if kind == "finite_number":
        return f"{value_text} is no number of minutes or seconds", "Give a finite number."
    if kind.startswith(("greater_than", "less_than")):
        bound = next(iter(context.values()))
        words = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}[kind]
        return f"{value_text} is out of range", f"Give {words} {bound}."
    if kind == "string_too_short":
        return "this is empty", "Give a value, or leave the key out."
    if first in wanted:
        return f"{value_text} is not {wanted[first]}", f"Give {wanted[first]}."
    return f"{value_text}: {fallback}", "Correct the value."


def describe_invalid_choice(given: object, expected: str) -> tuple[str, str]:
    """Return message and hint for a value that is not an allowed choice. ``expected`` is pydantic's list of choices."""
    options = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = did_you_mean(str(given), options) if isinstance(given, str) else ""
    return f"{render_value(given)} is not one of {', '.join(options)}", f"{near}Write one of {', '.join(options)}."


def find_known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
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


def _describe_some_keys(model: type[BaseModel]) -> str:
    by_need = sorted(model.model_fields, key=lambda key: not model.model_fields[key].is_required())
    return ", ".join(f"`{key}:`" for key in by_need[:3])


def describe_type(value: object) -> str:
    """Return the type of a value in words, without the value."""
    if value is None:
        return "nothing"
    names = (("a map", dict), ("a list", list), ("text", str))
    return next((name for name, kind in names if isinstance(value, kind)), "a value")


def render_value(value: object) -> str:
    """Return a value for a message."""
    if isinstance(value, (dict, list)) or value is None:
        return describe_type(value)
    return repr(str(value.value if isinstance(value, Enum) else value)[:80])


_INVENTORY_MESSAGES = ValidationMessages(_describe_error, _describe_some_keys)
