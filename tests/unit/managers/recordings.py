"""Conversations with machines. tests/data/<family>/<machine>.<script>.json holds the records that a script gave.

<machine>.<script>.wanted.json holds what they mean, without what has its default value: so a new field of the model
changes no recording.
"""

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from tasks.domain.protocols.transport import ScriptResult

DATA = Path(__file__).parents[2] / "data"


def recorded(name: str, exit_code: int = 0, family: str = "apt") -> ScriptResult:
    records = json.loads((DATA / family / f"{name}.json").read_text(encoding="utf-8"))
    return ScriptResult(records=tuple(records), exit_code=exit_code)


def section(name: str, wanted: str, family: str = "apt") -> str:
    """The text of one section of a recording."""
    (record,) = [r for r in recorded(name, family=family).find_records("section") if r["name"] == wanted]
    return str(record["text"])


def wanted(name: str, family: str = "apt") -> Any:
    return json.loads((DATA / family / f"{name}.wanted.json").read_text(encoding="utf-8"))


def describe(value: object) -> Any:
    """A value of the model as JSON, without the fields that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: describe(each) for field, each in pairs if each != _default(field)}
    if isinstance(value, tuple | list):
        return [describe(each) for each in value]
    return json.loads(json.dumps(value, default=str))


def _default(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default
