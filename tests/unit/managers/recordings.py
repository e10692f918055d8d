"""Conversations with real machines. tests/data/apt/<machine>.<script>.json holds the records that a script gave."""

import json
from pathlib import Path
from typing import Any

from tasks.protocols.transport import ScriptResult

DATA = Path(__file__).parents[2] / "data" / "apt"


def recorded(name: str, exit_code: int = 0) -> ScriptResult:
    records = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return ScriptResult(records=tuple(records), exit_code=exit_code)


def section(name: str, wanted: str) -> str:
    """The text of one section of a recording."""
    (record,) = [r for r in recorded(name).find_records("section") if r["name"] == wanted]
    return str(record["text"])


def wanted(name: str) -> Any:
    return json.loads((DATA / f"{name}.wanted.json").read_text(encoding="utf-8"))
