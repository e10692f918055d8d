"""Builds a request from options and a request file. Errors name the option or the key."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from fleetpatch.cli.request_options import OPTIONS_BY_KEY, REQUEST_OPTIONS
from flows.request.patch_request import PatchRequest
from inventory.errors import InvalidInventory
from inventory.files.located_yaml import parse_yaml
from inventory.files.paths import expand_home
from inventory.files.problems import ProblemCollector
from inventory.files.text_files import read_text_file
from tasks.domain.errors import RequestError
from tasks.reports.formatting import format_count
from tasks.reports.sanitizing import sanitize_to_one_line

RequestType = TypeVar("RequestType", bound=BaseModel)
RequestTree = dict[str, object]

MAX_FAULTS = 10
"""The most faults that one error lists."""


def load_request_file(path: Path) -> RequestTree:
    """Return what a request file (YAML or JSON) says. Values of YAML stay the text that was written.

    Raises:
        RequestError: it cannot be read, or is not a request.
    """
    path = expand_home(path, RequestError)
    problems = ProblemCollector()  # the same checks as for inventories: pipes, sizes, depths, aliases, duplicate keys
    text = read_text_file(path, problems)
    data = _parse_request_text(path, text, problems) if text is not None else None
    try:
        problems.raise_if_any()
    except InvalidInventory as error:
        first, *more = error.problems
        and_more = f" (and {format_count(len(more), 'more fault')})" if more else ""
        raise RequestError(f"{first}{and_more}", hint=first.hint or "Correct it at that place.") from error
    if not isinstance(data, dict):
        raise RequestError(
            f"{path} contains no request", hint="Write keys such as `scope:` and `window: {minutes: 120}`."
        )
    return data


def _parse_request_text(path: Path, text: str, problems: ProblemCollector) -> object:
    if path.suffix != ".json":
        located = parse_yaml(path, text, problems)
        return located.data if located else None
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    except RecursionError as error:
        raise RequestError(f"{path} nests too deeply", hint="Use fewer levels.") from error
    except ValueError as error:
        raise RequestError(f"{path} is not valid JSON: {error}", hint="Correct it at that place.") from error


def _reject_duplicate_keys(pairs: Sequence[tuple[str, object]]) -> RequestTree:
    tree: RequestTree = {}
    for key, value in pairs:
        if key in tree:
            raise ValueError(f"the key {key!r} is given twice")
        tree[key] = value
    return tree


def merge_trees(base: RequestTree, over: RequestTree) -> RequestTree:
    """Return the base, overridden by the other tree. Maps are merged key by key; other values are replaced."""
    result = dict(base)
    for key, value in over.items():
        base_value = result.get(key)
        result[key] = (
            merge_trees(base_value, value) if isinstance(base_value, dict) and isinstance(value, dict) else value
        )
    return result


def remove_unset_values(tree: Mapping[str, object]) -> RequestTree:
    """Return a tree without unset values (None), and without branches that are then empty."""
    result: RequestTree = {}
    for key, value in tree.items():
        set_value = remove_unset_values(value) if isinstance(value, dict) else value
        if set_value is not None and set_value != {}:
            result[key] = set_value
    return result


def build_request(
    kind: type[RequestType], tree: RequestTree, source: Path | None = None, verb: str = "patch"
) -> RequestType:
    """Return the request that a tree describes.

    ``source``: the request file, if there is one.

    Raises:
        RequestError: it names every wrong key, and the option that sets it.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        faults = [_describe_fault(detail["loc"], detail["type"], detail["msg"]) for detail in details[:MAX_FAULTS]]
        if len(details) > MAX_FAULTS:
            faults.append(f"and {len(details) - MAX_FAULTS} more")
        prefix = f"{source}, with the options: " if source else ""
        hint = f"`fleetpatch {verb} --help` lists the possible values."
        raise RequestError(f"{prefix}{'; '.join(faults)}", hint=hint) from error


def _describe_fault(location: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind == "missing" and location == ("scope",):
        return "name the machines: a scope such as web-1 or env=prod, or '*' for all"
    key = sanitize_to_one_line(".".join(str(part) for part in location), 200)
    option = next((o for name, o in OPTIONS_BY_KEY.items() if key == name or key.startswith(f"{name}.")), "")
    if kind == "missing":
        message = "it is missing"
    elif kind.startswith(("datetime", "date_")):
        message = "it is no time; write one such as 2026-11-27 22:00"
    message = message.removeprefix("Value error, ")
    return f"{option or key or 'request'}: {message[:1].lower()}{message[1:]}"


def build_patch_request(options: Mapping[str, Any]) -> PatchRequest:
    """Return the request that options, over a request file, make. Raise RequestError if it is not valid."""
    source: Path | None = options["request"]
    base = load_request_file(source) if source is not None else {}
    verb = "plan" if options.get("dry_run") else "patch"
    request = build_request(
        PatchRequest, merge_trees(base, remove_unset_values(_build_request_tree(options))), source, verb
    )
    if options["only_included"] and not request.updates.include:
        raise typer.BadParameter("--only-included needs --include, which names what to install")
    return request


def _build_request_tree(options: Mapping[str, Any]) -> RequestTree:
    """Return the options in the layout of the request. None: not given."""
    tree: RequestTree = {"dry_run": options.get("dry_run") or None}
    for option in REQUEST_OPTIONS:
        if option.field is not None:
            *groups, name = option.key.split(".")
            branch: dict[str, Any] = tree
            for group in groups:
                branch = branch.setdefault(group, {})
            branch[name] = option.read_value(options)
    if options["only_included"]:
        if options["classification"]:
            raise typer.BadParameter(
                "--only-included and --classification contradict each other: give only one of them"
            )
        tree = merge_trees(tree, {"updates": {"classifications": []}})
    return tree
