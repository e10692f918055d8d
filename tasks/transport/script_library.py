"""The text of a script that runs on POSIX machines, found by its name."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias

from tasks.errors import RequestError

SCRIPT_FOLDERS: Final = ("scripts/posix", "managers/apt/scripts")
"""Folders of the package ``tasks`` that hold scripts. A name is in one of them only."""


@cache
def load_script(name: str) -> str:
    """Return the text of the script <name>.sh.

    Raises:
        RequestError: there is no such script.
    """
    places = [files("tasks").joinpath(*folder.split("/"), f"{name}.sh") for folder in SCRIPT_FOLDERS]
    source = next((place for place in places if place.is_file()), None)
    if "/" in name or source is None:
        raise RequestError(f"there is no script named '{name}' for POSIX systems")
    return source.read_text(encoding="utf-8")


ScriptLoader: TypeAlias = Callable[[str], str]
"""Gives a script's text by its name; raises RequestError when there is none."""
