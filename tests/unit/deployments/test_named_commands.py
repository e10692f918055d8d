"""Commands and units that pages, errors and documents tell people to use exist."""

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

import fleetpatch.cli.command  # noqa: F401 - adds its commands to the app
from fleetpatch.cli.app import app
from tests.ci import tree

_SUFFIXES = {".py", ".j2", ".md"}
_TOLD = re.compile(r"(?:`|<code>|^    |\()(?:sudo )?fleetpatch ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", re.MULTILINE)
_UNIT = re.compile(r"systemctl [a-z]+ (?:--now )?(fleetpatch-[a-z]+@?)")
_UNITS = {path.name.partition(".")[0] for path in (tree.TOP / "deployments/units").glob("*.service")}

_COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group: typer says a command


def _find_unknown(text: str) -> Iterator[str]:
    for found in _TOLD.finditer(text):
        name, below = found.groups()
        command = _COMMANDS.get(name)
        if command is None or (below and getattr(command, "commands", None) and below not in command.commands):
            yield f"fleetpatch {name} {below or ''}".strip()
    yield from (unit for unit in _UNIT.findall(text) if unit not in _UNITS)


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
