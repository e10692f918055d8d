"""Commands and units that pages, errors and documents tell people to use exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import fleetpatch.cli.command  # noqa: F401 - adds its commands to the app
from fleetpatch.cli.app import app
from tests.ci import tree

_SUFFIXES = {".py", ".j2", ".md"}
_TOLD = re.compile(r"(?:`|<code>|^    |\()(?:sudo )?fleetpatch ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", re.MULTILINE)
_UNIT = re.compile(r"systemctl [a-z]+ (?:--now )?(fleetpatch-[a-z]+@?)")
_UNITS = {path.name.partition(".")[0] for path in (tree.TOP / "deployments/units").glob("*.service")}

_HINT = re.compile(r"\bfleetpatch ([a-z][^`\n;]*?)(?=\bfleetpatch |[`\n;]|$)")
_ARGUMENT = re.compile(r"[A-Z_]+|\*|last|[^ ]*VALUE[^ ]*")
_ROOT: Any = get_command(app)  # a group: typer says a command
_COMMANDS: dict[str, Any] = _ROOT.commands


def _find_unknown(text: str) -> Iterator[str]:
    for found in _TOLD.finditer(text):
        name, below = found.groups()
        command = _COMMANDS.get(name)
        if command is None or (below and getattr(command, "commands", None) and below not in command.commands):
            yield f"fleetpatch {name} {below or ''}".strip()
    yield from (unit for unit in _UNIT.findall(text) if unit not in _UNITS)


def _read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module as people read them, with VALUE for each value."""
    tree_of_module = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree_of_module) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree_of_module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def _find_faults(text: str) -> Iterator[str]:
    """Yield the commands of a text that the parser of that command does not take."""
    for found in _HINT.finditer(text):
        words, name = found[1].split(), ""
        command: Any = _ROOT
        while words and (below := getattr(command, "commands", {}).get(words[0].rstrip(".,:)'"))):
            word, command = words.pop(0), below
            name = f"{name} {word}".strip()
            words = words if word.isidentifier() or "-" in word else []  # else a sentence ends
        arguments, options = [], {option: p for p in command.params for option in (*p.opts, *p.secondary_opts)}
        is_value = False
        for word in words if name and not hasattr(command, "commands") else ():
            plain = word.rstrip(".,:)'").lstrip("'")
            if not (is_value or word.startswith("-") or _ARGUMENT.fullmatch(plain)):
                break  # the sentence goes on
            is_value = not is_value and plain in options and not getattr(options[plain], "is_flag", True)
            arguments.append(plain.replace("NUMBER", "1"))
            if plain != word and not word.endswith("'"):
                break
        if not arguments:
            continue
        context = command.make_context(name, list(arguments), resilient_parsing=True)
        unknown = [word for word in arguments if word.startswith("--") and word not in options]
        needs = [p.name for p in command.params if p.param_type_name == "argument" and p.required]
        if unknown or context.args or not all(context.params.get(need) for need in needs if need):
            yield f"fleetpatch {name} {' '.join(arguments)}"


def test_each_command_in_a_hint_has_the_words_that_its_parser_takes() -> None:
    named = re.compile(rf"fleetpatch (?:{'|'.join(_COMMANDS)})\b")
    modules = [path for path in tree.texts() if path.suffix == ".py" and tree.name(path).partition("/")[0] != "tests"]
    hints = {
        f"{tree.name(path)}: {fault}"
        for path in modules
        if named.search(path.read_text())
        for text in _read_texts(path)
        for fault in _find_faults(text)
    }
    assert hints == set()


def test_a_hint_that_no_parser_takes_is_found() -> None:
    said = (
        "fleetpatch undo VALUE VALUE --by snapshot, or fleetpatch resume VALUE --finalise; `fleetpatch cancel VALUE X`"
    )
    said += (
        "; fleetpatch audit cut --reason TEXT; fleetpatch show last tells it. fleetpatch audit cut NUMBER --reason TEXT"
    )
    assert list(_find_faults(said)) == [
        "fleetpatch resume VALUE --finalise",
        "fleetpatch cancel VALUE X",
        "fleetpatch audit cut --reason TEXT",
    ]


def test_what_people_are_told_to_use_exists() -> None:
    texts = [each for each in tree.texts() if each.suffix in _SUFFIXES]
    unknown = {
        f"{tree.name(path)}: {each}"
        for path in texts
        if path.relative_to(tree.TOP).parts[0] not in {"tests", "inventory"}
        for each in _find_unknown(path.read_text())
    }
    assert unknown == set()


def test_what_does_not_exist_is_found() -> None:
    said = (
        "`fleetpatch worker`, <code>systemctl status fleetpatch-worker</code>, `fleetpatch web tokn`, `fleetpatch runs`"
    )
    assert list(_find_unknown(said)) == ["fleetpatch worker", "fleetpatch web tokn", "fleetpatch-worker"]


def test_a_group_has_all_its_commands_whatever_was_loaded_before() -> None:
    root: Any = get_command(app)
    assert root.get_command(None, "updates") is not None  # its module makes the group, and another one adds to it
    assert set(root.get_command(None, "machines").commands) == {"list", "clean"}
