"""Compare golden outputs: a diff for each text, and what changed at each key of a JSON document."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ABSENT = "(absent)"
_EXAMPLES = 2


def read_files(folder: Path) -> dict[str, str]:
    """Return the outputs of a folder, by their names in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in files}


def compare_texts(before: dict[str, str], after: dict[str, str], *, by_key: bool = False) -> str:
    """Return the differences of outputs, by name; "" if they are equal.

    Args:
        before: outputs by their names.
        after: the same, of the other program.
        by_key: whether a JSON document has a line for each key with other values, instead of a unified diff.
    """
    parts: list[str] = []
    for name in sorted({*before, *after}):
        if name not in after:
            parts.append(f"only before: {name}\n")
        elif name not in before:
            parts.append(f"only after: {name}\n")
        elif before[name] != after[name]:
            documents = (_parse(before[name]), _parse(after[name])) if by_key else (None, None)
            if None in documents:
                parts.append(_diff(name, before[name], after[name]))
            else:
                parts.append(f"--- before/{name}\n+++ after/{name}\n" + "".join(_compare_documents(*documents)))
    return "\n".join(parts)


def _diff(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"before/{name}", f"after/{name}", n=2, lineterm=""
    )
    return "\n".join(lines) + "\n"


def _parse(text: str) -> Any | None:
    """Return the JSON document in an output of the command or the API, or None."""
    start, end = text.find("{"), text.rfind("}")
    try:
        return json.loads(text[start : end + 1])
    except ValueError:
        return None


def _iterate_values(value: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each value of a document: its key, its key with the numbers of lists, and the value as text."""
    if isinstance(value, dict):
        yield path, path, "{}" if not value else "{…}"
        for key, inner in value.items():
            yield from ((f".{key}{kind}", f".{key}{where}", text) for kind, where, text in _iterate_values(inner))
    elif isinstance(value, list):
        yield path, path, f"[{len(value)}]"
        for number, inner in enumerate(value):
            yield from ((f"[]{kind}", f"[{number}]{where}", text) for kind, where, text in _iterate_values(inner))
    else:
        yield path, path, json.dumps(value, ensure_ascii=False)


def _compare_documents(before: Any, after: Any) -> Iterator[str]:
    documents = [{where: (kind, text) for kind, where, text in _iterate_values(each)} for each in (before, after)]
    changes: dict[str, list[str]] = {}
    absent = ""  # what is in it is absent as well
    for where in dict.fromkeys((*documents[0], *documents[1])):
        (kind, old), (other, new) = (document.get(where, ("", _ABSENT)) for document in documents)
        if _ABSENT in (old, new):
            if absent and where.startswith((f"{absent}.", f"{absent}[")):
                continue
            absent = where
        if old != new:
            changes.setdefault(kind or other, []).append(f"{old} → {new}")
    for kind, values in changes.items():
        examples = " | ".join(list(dict.fromkeys(values))[:_EXAMPLES])
        yield f"{kind}: {len(values)} times: {examples}\n"
    if not changes:
        yield "the order of keys or the form differs, no value\n"
