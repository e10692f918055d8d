"""The help of each command: it fits 80 columns, has one to three examples, and the parser takes them."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import fleetpatch.cli.command  # noqa: F401 - adds its verbs
from fleetpatch.cli import commands
from fleetpatch.cli.app import app
from fleetpatch.cli.runtime.command_help import _COMMANDS_BY_MODULE, EXAMPLES
from tests.contract.cli.conftest import Stage

ROOT: Any = typer.main.get_command(app)


def _iterate_commands(command: Any, path: str = "") -> Iterator[str]:
    """The names of all commands that do something."""
    inner = getattr(command, "commands", {})
    for name in inner:
        yield from _iterate_commands(inner[name], f"{path} {name}".strip())
    if path and (not inner or command.invoke_without_command):
        yield path


def test_each_command_has_examples_and_each_example_a_command() -> None:
    assert set(_iterate_commands(ROOT)) == set(EXAMPLES)
    assert {path: words for path, words in EXAMPLES.items() if not 1 <= len(words) <= 3} == {}


def _parse(words: list[str]) -> str:
    """Parse words as the command would, without running it. Returns the name of the command."""
    context, command, path = ROOT.make_context("fleetpatch", words), ROOT, []
    while rest := [*context._protected_args, *context.args] if hasattr(command, "commands") else []:
        name, command, rest = command.resolve_command(context, rest)
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path)


@pytest.mark.parametrize(("path", "example"), [(path, each) for path, words in EXAMPLES.items() for each in words])
def test_the_parser_takes_an_example(path: str, example: str) -> None:
    assert _parse(shlex.split(example)) == path


def test_a_wrong_example_would_be_seen() -> None:
    for wrong in ("show last --machin web-1", "plan a b", "runs --limit x", "shwo"):
        with pytest.raises(Exception, match=r"No such|unexpected|valid integer"):
            _parse(shlex.split(wrong))


def test_the_help_of_each_command_fits_80_columns_and_shows_its_examples(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for path, words in EXAMPLES.items():
        if path == "prefect":  # its own help is Prefect's
            continue
        shown = stage.run(*path.split(), "--help").out
        lines = shown.splitlines()
        assert [line for line in lines if len(line.rstrip()) > 80] == []
        assert "<bool>" not in shown
        for each in words:
            assert f" fleetpatch {each}" in [line.rstrip() for line in lines], path


def test_the_help_of_all_names_the_first_steps(stage: Stage) -> None:
    shown = stage.run("--help").out
    assert "<bool>" not in shown
    panels = ["Look", "Patch", "Look back", "Schedule", "Set up"]
    assert sorted(panels, key=lambda panel: shown.index(f"─ {panel} ─")) == panels
    assert "fleetpatch inventory check" in shown


LOAD_EACH = """
import os, sys
from typer.main import get_command
from fleetpatch.cli.app import app
from fleetpatch.cli.runtime.command_help import _COMMANDS_BY_MODULE
group = get_command(app)
for module, names in _COMMANDS_BY_MODULE.items():
    pid = os.fork()
    if not pid:
        os._exit(any(group.get_command(None, name) is None for name in names))
    if os.waitpid(pid, 0)[1]:
        print(module)
print(len(group.commands))
"""


def test_each_module_of_commands_is_known_and_adds_what_is_said_of_it() -> None:
    """A module that is not in the table is never loaded."""
    folder = Path(commands.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(_COMMANDS_BY_MODULE)
    said = subprocess.run([sys.executable, "-c", LOAD_EACH], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(sum(map(len, _COMMANDS_BY_MODULE.values())))]
