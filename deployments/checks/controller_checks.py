"""Checks that the controller has what configurations need: folders, programs, functions, files.

The checks look at this machine, which is usually the machine of the worker. They import and run nothing.
"""

import ast
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from deployments.checks.finding import ConfigurationFinding, warn
from deployments.configuration.model import Configuration, Configurations
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from flows.hooks.command import find_module_problem, find_program_problem
from flows.request.automatic_request import AutomaticRequest
from flows.request.request_parts import NotifyRequest
from inventory.credential_references import ReferenceKind
from inventory.credentials import resolve_credential
from inventory.errors import CredentialError
from tasks.domain.model import Hook
from tasks.domain.states import HookKind
from tasks.rules.child_environment import DEFAULT_PATH

_OTHER_MACHINE_HINT = "Ignore this if another machine executes its runs and has it."


def check_controller(configurations: Configurations) -> tuple[ConfigurationFinding, ...]:
    """Return findings for everything that configurations name and that does not exist, in their order."""
    findings = [
        finding
        for configuration in configurations.all_configurations
        for finding in _check_configuration(configuration)
    ]
    return (*findings, *_check_automatic(configurations.automatic))


def _check_automatic(request: AutomaticRequest | None) -> Iterator[ConfigurationFinding]:
    if request is None:
        return
    if request.feeds is not None and not request.feeds.is_dir():
        message = f"there is no folder of feed files {str(request.feeds)[:200]}: rules that need them never apply"
        yield _warn(AUTOMATIC_NAME, "feeds", message, "Correct the path, or make the folder.")
    yield from _check_notifications(AUTOMATIC_NAME, request.notify)


def _check_notifications(name: str, targets: Sequence[NotifyRequest]) -> Iterator[ConfigurationFinding]:
    for target in targets:
        if problem := _find_reference_problem(target.to):
            yield _warn(name, "notify", f"no notification can be sent: {problem}", "Correct the file, or the path.")


def _check_configuration(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    if configuration.form.report_directory is not None and (
        problem := _find_folder_problem(configuration.form.report_directory)
    ):
        message = f"reports can't be written to {str(configuration.form.report_directory)[:200]}: {problem}"
        yield _warn(configuration.name, "report_directory", message, "Name a folder that exists or can be created.")
    for hook in configuration.form.hooks.to_hooks():
        if problem := _find_hook_problem(hook):
            message = f"the hook {hook.name!r} ({hook.place}) would fail: {problem}"
            yield _warn(configuration.name, "hooks", message, "Correct its target.")
    yield from _check_notifications(configuration.name, configuration.form.notify)


def _warn(configuration: str, key: str, message: str, remedy: str) -> ConfigurationFinding:
    return warn(configuration, key, message, f"{remedy} {_OTHER_MACHINE_HINT}")


def _find_folder_problem(path: Path) -> str:
    try:
        nearest_path = next(parent for parent in (path, *path.parents) if parent.exists() or parent.is_symlink())
        if not nearest_path.is_dir():
            return f"{nearest_path} is no folder" if nearest_path != path else "it is no folder"
    except OSError as error:
        return str(error.strerror)
    return "" if os.access(nearest_path, os.W_OK | os.X_OK) else f"{nearest_path} can't be written to"


def _find_hook_problem(hook: Hook) -> str:
    if hook.kind is HookKind.PYTHON:
        module, _, function = hook.target.partition(":")
        return _find_function_problem(module, function) or find_module_problem(module)
    if hook.kind is HookKind.CONTROLLER_COMMAND:
        program = shlex.split(hook.target)[0]
        if "/" in program and not program.startswith(("/", "~")):
            return f"{program} is a relative path, and a run starts in a folder of its own"
        if shutil.which(program) is None:
            return f"there is no executable program {program}"
        return find_program_problem(program, os.environ.get("PATH", DEFAULT_PATH))
    return ""


def _find_function_problem(module: str, function: str) -> str:
    """Return why a function can't be called, or "". The check reads the source and imports nothing."""
    if module in sys.builtin_module_names:
        return ""  # part of Python itself, without a source: which modules these are differs between Pythons
    folders: Sequence[str] | None = None
    spec = None
    for number in range(1, len(module.split(".")) + 1):
        part = ".".join(module.split(".")[:number])
        spec = PathFinder.find_spec(part, folders)
        if spec is None:
            return f"there is no module {part} that can be imported"
        folders = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""  # the source of a compiled module can't be read
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the module {module} can't be read: {str(error)[:200]}"
    # Names that are bound anywhere count, because `if` and `try` may bind names, too.
    names = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return "" if function in names else f"there is no function {function} in the module {module}"


def _find_reference_problem(reference: str) -> str:
    if not reference.startswith(f"{ReferenceKind.FILE}:"):
        return ""
    try:
        resolve_credential(reference)
    except CredentialError as error:
        return error.message
    return ""
