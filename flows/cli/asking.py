"""From options (and a request file) to a request: what is wrong is told with the option or key that it stands in."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from inventory.errors import InvalidInventory
from inventory.load import find_inventory, load_inventory
from inventory.machine import Inventory, Machine
from inventory.places import Problems, read_text, with_home
from inventory.scope import Scope
from inventory.yaml_tree import parse_yaml
from tasks.errors import RequestError
from tasks.reporting.text import one_line, plural

M = TypeVar("M", bound=BaseModel)
Tree = dict[str, object]

MOST_FAULTS = 10
"""Of a request; nobody reads on, and the next try tells the rest."""

_OPTIONS: Mapping[str, str] = {
    "updates.classifications": "--classification",
    "updates.include": "--include",
    "updates.exclude": "--exclude",
    "updates.published_before": "--published-before",
    "window.start": "--window-start",
    "window.minutes": "--minutes",
    "window.zone": "--zone",
    "outside_window": "--outside-window",
    "waves.canary_count": "--canary",
    "waves.canary_percent": "--canary",
    "waves.size": "--wave-size",
    "waves.percent": "--wave-percent",
    "waves.at_once": "--at-once",
    "waves.pause_minutes": "--pause",
    "waves.failure_budget_count": "--failure-budget",
    "waves.failure_budget_percent": "--failure-budget",
    "waves.unreachable_percent": "--unreachable-percent",
    "reboot": "--reboot",
    "reboot_reserve_minutes": "--reserve",
    "max_reboots": "--max-reboots",
    "report_directory": "--report",
}


def read_request_file(path: Path) -> Tree:
    """Return what a request file (YAML or JSON) says. Values of YAML stay the text that was written.

    Raises:
        RequestError: it can't be read, or isn't one.
    """
    path = with_home(path, RequestError)
    problems = Problems()  # read with the same care as inventories: pipes, sizes, depths, aliases, twins
    text = read_text(path, problems)
    data = _parsed(path, text, problems) if text is not None else None
    try:
        problems.raise_any()
    except InvalidInventory as error:
        first, *more = error.problems
        and_more = f" (and {plural(len(more), 'more fault')})" if more else ""
        raise RequestError(f"{first}{and_more}", hint=first.hint or "Correct it at that place.") from error
    if not isinstance(data, dict):
        raise RequestError(f"{path} holds no request", hint="Write keys such as `scope:` and `window: {minutes: 120}`.")
    return data


def _parsed(path: Path, text: str, problems: Problems) -> object:
    if path.suffix != ".json":
        located = parse_yaml(path, text, problems)
        return located.data if located else None
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError as error:
        raise RequestError(f"{path} nests too deeply", hint="Write it flatter.") from error
    except ValueError as error:
        raise RequestError(f"{path} is no JSON that can be used: {error}", hint="Correct it at that place.") from error


def _without_twins(pairs: Sequence[tuple[str, object]]) -> Tree:
    found: Tree = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


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


def validated(kind: type[M], tree: Tree, source: Path | None = None, verb: str = "patch") -> M:
    """Return the request that a tree describes.

    Args:
        kind: of request.
        tree: keys and values.
        source: the file that the tree began with.
        verb: the command that was asked for it.

    Raises:
        RequestError: with every key that is wrong, and the option that sets it.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = [_fault(each["loc"], each["msg"]) for each in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            faults.append(f"and {len(found) - MOST_FAULTS} more")
        where = f"{source}, with the options: " if source else ""
        hint = f"`fleetpatch {verb} --help` lists what is possible."
        raise RequestError(f"{where}{'; '.join(faults)}", hint=hint) from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    key = one_line(".".join(str(part) for part in location), 200)
    option = next((o for name, o in _OPTIONS.items() if key == name or key.startswith(f"{name}.")), "")
    message = message.removeprefix("Value error, ")
    return f"{option or key or 'request'}: {message[:1].lower()}{message[1:]}"


def machines_of(inventory: Path | None, scope: str) -> tuple[Inventory, tuple[Machine, ...]]:
    """Return the inventory, and the machines in a scope of it.

    Raises:
        InventoryError: either can't be used, or the scope is empty.
    """
    found = load_inventory(find_inventory(inventory))
    return found, Scope.parse(scope).select(found)
