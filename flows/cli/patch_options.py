"""The options of a patch run, and the request that they make."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.request_options import REQUEST_OPTIONS
from flows.cli.runtime.request_parsing import (
    RequestTree,
    build_request,
    load_request_file,
    merge_trees,
    remove_unset_values,
)
from flows.request.patch_request import PatchRequest

PATCH_OPTIONS: Mapping[str, Any] = {each.name: each.parameter for each in REQUEST_OPTIONS}


def build_patch_command(name: str, body: Callable[[dict[str, Any]], None], flags: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of Typer's
    """Return the command of a verb that has all these options and its own flags. The verb receives them as one map."""

    def command(**options: Any) -> None:  # noqa: ANN401 - as many types as options
        body(options)

    all_options = {**PATCH_OPTIONS, **{key: Annotated[bool | None, flag] for key, flag in flags.items()}}
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, kind, default=None, annotation=hint) for key, hint in all_options.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = all_options
    verb = typer.Typer(add_completion=False)
    verb.command(name, help=body.__doc__)(command)
    return typer.main.get_command(verb)


def build_patch_request(options: Mapping[str, Any]) -> PatchRequest:
    """Return the request that options, over a request file, make.

    Raises:
        RequestError: it is not valid.
    """
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
