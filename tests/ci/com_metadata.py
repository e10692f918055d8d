"""Writes what Microsoft's metadata says of the COM interfaces that the scripts for Windows use.

    python -m tests.ci.com_metadata WHEEL >tests/data/windows/com_metadata.json

The wheel is named in tests/data/windows/README.md. Its modules are generated from Microsoft's win32metadata. They are
read as text and never imported.
"""

import ast
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MODULES = ("UpdateAgent", "TaskScheduler")
_PLACE = "win32more/Windows/Win32/System/{}/__init__.py"


def read_metadata(wheel: Path) -> dict[str, dict[str, Any]]:
    """Return the interfaces with their members, and the enumerations with their values.

    A type is the last part of its name. ``get`` and ``put`` are the types of a property, ``returns`` and ``parameters``
    those of a method or of a property with an index.
    """
    interfaces: dict[str, Any] = {}
    enumerations: dict[str, dict[str, int]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in _MODULES:
            tree = ast.parse(archive.read(_PLACE.format(name)).decode())
            interfaces |= dict(_list_interfaces(tree))
            for enumeration, member, value in _list_values(tree):
                enumerations.setdefault(enumeration, {})[member] = value
    automation = {name: each for name, each in interfaces.items() if _is_automation(interfaces, name)}
    return {"interfaces": automation, "enumerations": enumerations}


def _is_automation(interfaces: dict[str, Any], name: str) -> bool:
    """Return whether scripts can use an interface."""
    return name == "IDispatch" or (name in interfaces and _is_automation(interfaces, interfaces[name]["extends"]))


def write_lines(metadata: dict[str, dict[str, Any]]) -> str:
    """Return the metadata as JSON with a line for each interface and enumeration."""
    parts = [
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f" {json.dumps(name)}: {json.dumps(entries[name], sort_keys=True)}" for name in sorted(entries))
        + "\n}"
        for part, entries in metadata.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}"


def _list_interfaces(tree: ast.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or not any(ast.unparse(base) == "ComPtr" for base in node.bases):
            continue
        extends = next(
            _shorten(each.annotation)
            for each in node.body
            if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "extends"
        )
        members: dict[str, dict[str, Any]] = {}
        for each in node.body:
            if isinstance(each, ast.FunctionDef):
                _add_member(members, each)
        yield node.name, {"extends": extends, "members": members}


def _add_member(members: dict[str, dict[str, Any]], function: ast.FunctionDef) -> None:
    types = [each.annotation for each in function.args.args[1:] if each.annotation is not None]
    kind, _, name = function.name.partition("_")
    if kind == "put":
        members.setdefault(name, {})["put"] = _shorten(types[-1])
        return
    has_result = bool(types) and isinstance(types[-1], ast.Call)  # POINTER(…)
    result = _shorten(types[-1]) if has_result else ""
    parameters = [_shorten(each) for each in (types[:-1] if has_result else types)]
    if kind == "get":
        members.setdefault(name, {})["get"] = result
        members[name] |= {"parameters": parameters} if parameters else {}
    else:
        members[function.name] = {"parameters": parameters, "returns": result}


def _list_values(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant | ast.UnaryOp):
            value = ast.literal_eval(node.value)
            kind = _shorten(node.annotation)
            if isinstance(value, int) and kind not in {"Int32", "UInt32"}:  # these are single constants
                yield kind, ast.unparse(node.target), value


def _shorten(annotation: ast.expr) -> str:
    """Return the last part of a type's name; of a pointer, that of its target."""
    if isinstance(annotation, ast.Call):
        return _shorten(annotation.args[0])
    return ast.unparse(annotation).rpartition(".")[2]


if __name__ == "__main__":
    print(write_lines(read_metadata(Path(sys.argv[1]))))
