"""What configurations need on the machine that carries their runs out: folders, programs, functions, files.

It is looked at here: most often that is the same machine. Nothing is imported or run for that.
"""

import ast
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from deployments.config.configuration import Configuration, Configurations
from deployments.config.finding import Finding
from inventory.credentials import ReferenceKind, resolve
from inventory.errors import CredentialError
from tasks.model import Hook
from tasks.rules.calendar.overlaps import Severity
from tasks.states import HookKind

_ELSEWHERE = "Ignore this if its runs happen on another machine that has it."


def needs(configurations: Configurations) -> tuple[Finding, ...]:
    """Return what configurations name and what is not there, in their order."""
    return tuple(finding for one in configurations.every for finding in _of(one))


def _of(one: Configuration) -> Iterator[Finding]:
    if one.form.report_directory is not None and (wrong := _wrong_with_folder(one.form.report_directory)):
        message = f"reports can't be written to {str(one.form.report_directory)[:200]}: {wrong}"
        yield _warning(one, "report_directory", message, "Name a folder, or one that can be made.")
    for hook in one.form.hooks.listed():
        if wrong := _wrong_with_hook(hook):
            yield _warning(
                one, "hooks", f"the hook {hook.name!r} ({hook.place}) would fail: {wrong}", "Correct its target."
            )
    for each in one.form.notify:
        if wrong := _wrong_with_reference(each.to):
            yield _warning(one, "notify", f"no notification can be sent: {wrong}", "Correct the file, or the path.")


def _warning(one: Configuration, key: str, message: str, remedy: str) -> Finding:
    return Finding(one.name, Severity.WARNS, key, message, f"{remedy} {_ELSEWHERE}")


def _wrong_with_folder(path: Path) -> str:
    try:
        there = next(each for each in (path, *path.parents) if each.exists() or each.is_symlink())
        if not there.is_dir():
            return f"{there} is no folder" if there != path else "it is no folder"
    except OSError as error:
        return str(error.strerror)
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} can't be written to"


def _wrong_with_hook(hook: Hook) -> str:
    if hook.kind is HookKind.PYTHON:
        module, _, function = hook.target.partition(":")
        return _wrong_with_function(module, function)
    if hook.kind is HookKind.CONTROLLER_COMMAND:
        program = shlex.split(hook.target)[0]
        if "/" in program and not program.startswith(("/", "~")):
            return f"{program} is a relative path, and a run starts in a folder of its own"
        if shutil.which(program) is None:
            return f"there is no program {program} that can be run"
    return ""


def _wrong_with_function(module: str, function: str) -> str:
    """Return why a function can't be called, as far as can be seen without importing anything, or ""."""
    folders: Sequence[str] | None = None
    spec = None
    for number in range(1, len(module.split(".")) + 1):
        part = ".".join(module.split(".")[:number])
        spec = PathFinder.find_spec(part, folders)
        if spec is None:
            return f"there is no module {part} that can be imported"
        folders = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""  # a compiled module: its functions can't be read here
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the module {module} can't be read: {str(error)[:200]}"
    return "" if function in _names(tree) else f"there is no function {function} in the module {module}"


def _names(tree: ast.Module) -> set[str]:
    """Return the names that a module may have: those that are bound anywhere in it, as `if` and `try` may bind them."""
    found = {
        each.name for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    found |= {each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    for each in ast.walk(tree):
        if isinstance(each, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in each.names}
    return found


def _wrong_with_reference(reference: str) -> str:
    if not reference.startswith(f"{ReferenceKind.FILE}:"):
        return ""
    try:
        resolve(reference)
    except CredentialError as error:
        return error.message
    return ""
