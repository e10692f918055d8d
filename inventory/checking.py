"""Checks data against the schema, and says what is wrong in words: the place, what stands there, and the remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inventory.places import KeyPath, Located, Problems, did_you_mean

_SECRET_WORDS = ("password", "passwd", "passphrase", "secret", "become_pass", "sudo_pass")
_SECRET_KEYS = frozenset({"credential", "privilege_password"})

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Words:
    """How the faults of a kind of file are told.

    Attributes:
        explained: message and remedy for what pydantic found.
        keys: some keys of a model, for whoever wrote none.
    """

    explained: Callable[[type[BaseModel], ErrorDetails], tuple[str, str]]
    keys: Callable[[type[BaseModel]], str]


def check(model: type[Model], located: Located, problems: Problems, words: Words | None = None) -> Model | None:
    """Check one map of an inventory, or of another file that is described by a model.

    Args:
        model: what it should be.
        located: the map, with its places.
        problems: takes every fault.
        words: how faults are told; None: an inventory's.

    Returns:
        The checked map, without the keys that were at fault, so that what is right can be checked further; None when
        nothing usable is left.
    """
    words, data = words or _INVENTORY, located.data
    if not isinstance(data, dict):
        problems.add(
            located.at(()), f"a map is wanted here, not {kind_of(data)}", f"Write {words.keys(model)} under it."
        )
        return None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        message, hint = words.explained(model, detail)
        problems.add(located.at(_whereabouts(detail)), message, hint)
    at_fault = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        return model.model_validate({key: value for key, value in data.items() if key not in at_fault})
    except ValidationError:
        return None  # what it can't do without was at fault, and that was noted above


def _whereabouts(detail: ErrorDetails) -> KeyPath:
    location = tuple(step for step in detail["loc"] if step != "[key]")  # pydantic's mark for a key, not a value
    return location[:-1] if detail["type"] == "missing" else location


def unknown_key(key: str, known: list[str]) -> tuple[str, str]:
    """Return message and remedy for a key that does not exist."""
    key = key[:80]
    if any(word in key.lower() for word in _SECRET_WORDS):
        hint = "A secret never stands in an inventory: use `credential` or `privilege_password` with a reference "
        return f"unknown key {key!r}", f"{hint}such as env:NAME."
    return f"unknown key {key!r}", f"{did_you_mean(key, known)}Known keys: {', '.join(known)}."


def _explained(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "inventory":
        return str(context["message"]), str(context["hint"])
    if kind == "extra_forbidden":
        return unknown_key(str(detail["loc"][-1]), keys_at(model, detail["loc"][:-1]))
    if kind == "missing":
        return f"{detail['loc'][-1]!r} is missing", f"Add `{detail['loc'][-1]}:`."
    if kind == "enum":
        return not_one_of(given, str(context["expected"]))
    what = kind_of(given) if detail["loc"] and detail["loc"][0] in _SECRET_KEYS else shown(given)
    return _wrong_value(kind, what, context, detail["msg"])


def _wrong_value(kind: str, shown: str, context: dict[str, object], otherwise: str) -> tuple[str, str]:
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
        return f"{shown} is no number of minutes or seconds", "Give a finite number."
    if kind.startswith(("greater_than", "less_than")):
        bound = next(iter(context.values()))
        words = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}[kind]
        return f"{shown} is out of range", f"Give {words} {bound}."
    if kind == "string_too_short":
        return "this is empty", "Give a value, or leave the key out."
    if first in wanted:
        return f"{shown} is not {wanted[first]}", f"Give {wanted[first]}."
    return f"{shown}: {otherwise}", "Correct the value."


def not_one_of(given: object, expected: str) -> tuple[str, str]:
    """Return message and remedy for a value that is none of a closed set, as pydantic names it."""
    options = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = did_you_mean(str(given), options) if isinstance(given, str) else ""
    return f"{shown(given)} is not one of {', '.join(options)}", f"{near}Write one of {', '.join(options)}."


def keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Return the keys that a model knows at a path inside it."""
    current = model
    for step in path:
        field = current.model_fields.get(step) if isinstance(step, str) else None
        inner = _models_in(field.annotation) if field else []
        current = inner[0] if inner else current
    return list(current.model_fields)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _some_keys(model: type[BaseModel]) -> str:
    by_need = sorted(model.model_fields, key=lambda key: not model.model_fields[key].is_required())
    return ", ".join(f"`{key}:`" for key in by_need[:3])


def kind_of(value: object) -> str:
    """Return what a value is, in words, without showing it."""
    if value is None:
        return "nothing"
    names = (("a map", dict), ("a list", list), ("text", str))
    return next((name for name, kind in names if isinstance(value, kind)), "a value")


def shown(value: object) -> str:
    """Return a value as a message may show it."""
    if isinstance(value, (dict, list)) or value is None:
        return kind_of(value)
    return repr(str(value.value if isinstance(value, Enum) else value)[:80])


_INVENTORY = Words(_explained, _some_keys)
