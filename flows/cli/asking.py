"""From options (and a request file) to a request: what is wrong is told with the option or key that it stands in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inventory.load import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.scope import Scope
from tasks.errors import RequestError

M = TypeVar("M", bound=BaseModel)
Tree = dict[str, object]

_OPTIONS: Mapping[str, str] = {
    "updates.classifications": "--classification",
    "updates.include": "--include",
    "updates.exclude": "--exclude",
    "window.start": "--window-start",
    "window.minutes": "--minutes",
    "window.zone": "--zone",
    "waves.canary_count": "--canary",
    "waves.size": "--wave-size",
    "waves.percent": "--wave-percent",
    "waves.at_once": "--at-once",
    "waves.pause_minutes": "--pause",
    "waves.failure_budget_count": "--failure-budget",
    "waves.failure_budget_percent": "--failure-budget",
    "reboot": "--reboot",
    "reboot_reserve_minutes": "--reserve",
}


def read_request_file(path: Path) -> Tree:
    """Return what a request file (YAML or JSON) says.

    Raises:
        RequestError: it can't be read, or isn't one.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} can't be read: {error}", hint="Correct the path after --request.") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise RequestError(f"{path} is neither YAML nor JSON: {said}", hint="Correct it at that place.") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RequestError(f"{path} holds no request", hint="Write keys such as `scope:` and `window: {minutes: 120}`.")
    return data


def merged(base: Tree, over: Tree) -> Tree:
    """Return the base with what is given over it; maps are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        mine = result.get(key)
        result[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result


def given(tree: Mapping[str, object]) -> Tree:
    """Return a tree without what was not given (None) and without branches that are empty for that."""
    result: Tree = {}
    for key, value in tree.items():
        kept = given(value) if isinstance(value, dict) else value
        if kept is not None and kept != {}:
            result[key] = kept
    return result


def validated(kind: type[M], tree: Tree, source: Path | None = None) -> M:
    """Return the request that a tree describes.

    Raises:
        RequestError: with every key that is wrong, and the option that sets it.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        faults = [_fault(each["loc"], each["msg"]) for each in error.errors(include_url=False, include_input=False)]
        where = f"{source}, with the options: " if source else ""
        hint = "`fleetpatch patch --help` lists what is possible."
        raise RequestError(f"{where}{'; '.join(faults)}", hint=hint) from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location)
    option = next((o for name, o in _OPTIONS.items() if key == name or key.startswith(f"{name}.")), "")
    return f"{option or key or 'request'}: {message[:1].lower()}{message[1:]}"


def machines_of(inventory: Path | None, scope: str) -> tuple[Inventory, tuple[Machine, ...]]:
    """Return the inventory, and the machines in a scope of it.

    Raises:
        InventoryError: either can't be used, or the scope is empty.
    """
    found = load_inventory(find_inventory(inventory))
    return found, Scope.parse(scope).select(found)
