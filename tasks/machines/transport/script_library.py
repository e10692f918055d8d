"""Finds the text of scripts, and puts the scripts that a script requires before it.

A script has one name for all systems. Each dialect (POSIX shell, PowerShell) has its own text of it. A script's first
comment says what it needs::

    # Requires: job_common, package_locks      functions of these scripts; their text is put before it
    # Brings: guard=package_locks              its parameter "guard" holds the text of that script

A script that is required may require others. Every one is searched in the package of the first script, in the packages
that contain that package, from the inside out, and last among the shared scripts. So package managers of one family
share scripts, and each can replace a shared script by its own.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Protocol

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script, ScriptParameter


@dataclass(frozen=True, slots=True)
class Dialect:
    """A language of scripts."""

    # Directories of a package with its scripts in this language; the first one that has a script counts.
    folders: tuple[str, ...]
    suffix: str  # of the file names
    systems: str  # what runs them, for messages


POSIX: Final = Dialect(("scripts/posix", "scripts"), ".sh", "POSIX systems")
WINDOWS: Final = Dialect(("scripts/windows", "scripts"), ".ps1", "Windows")

_REQUIRES_PATTERN: Final = re.compile(r"^# Requires: (.+)$", re.MULTILINE)
_BRINGS_PATTERN: Final = re.compile(r"^# Brings: (.+)$", re.MULTILINE)


_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_]+")
_NOT_HELD_PATTERN: Final = re.compile(r"[\x00\ud800-\udfff]")


def require_valid_param(name: str, value: ScriptParameter) -> None:
    """Require a parameter that scripts of every kind can hold.

    Raises:
        RequestError: a name that is no name of a shell's variable, or a value that a shell can't hold: NUL, lone
            surrogates, or a newline within an item of a list.
    """
    if not _NAME_PATTERN.fullmatch(name):
        raise RequestError(f"parameter {name!r}: only letters, digits and _ can be in its name")
    for text in (value,) if isinstance(value, str) else value:
        if not isinstance(value, str) and "\n" in text:
            raise RequestError(f"parameter '{name}': an item of a list contains a line break: {text!r}")
        if _NOT_HELD_PATTERN.search(text):
            raise RequestError(f"parameter '{name}' contains NUL or half a character: {text[:80]!r}")


class ScriptLoader(Protocol):
    """Gives a script's text by its name and its package; raises RequestError if there is none."""

    def __call__(self, name: str, package: str = SHARED_SCRIPTS) -> str:
        """Return the text."""


def load_script(name: str, package: str = SHARED_SCRIPTS) -> str:
    """Return the text of the script <name>.sh of a package, of a package that contains it, or of the shared scripts.

    Raises:
        RequestError: there is no such script.
    """
    return _read_script(name, package, POSIX)


def load_windows_script(name: str, package: str = SHARED_SCRIPTS) -> str:
    """Return the text of the script <name>.ps1, found like those of ``load_script``.

    Raises:
        RequestError: there is no such script.
    """
    return _read_script(name, package, WINDOWS)


@cache
def _read_script(name: str, package: str, dialect: Dialect) -> str:
    parts = package.split(".")
    packages = dict.fromkeys((*(".".join(parts[:end]) for end in range(len(parts), 0, -1)), SHARED_SCRIPTS))
    candidates = (
        files(package_name).joinpath(*folder.split("/"), f"{name}{dialect.suffix}")
        for package_name in packages
        for folder in dialect.folders
    )
    source = next((path for path in candidates if path.is_file()), None)
    if "/" in name or source is None:
        raise RequestError(f"there is no script named '{name}' for {dialect.systems}")
    return source.read_text(encoding="utf-8")


def find_required_scripts(text: str) -> tuple[str, ...]:
    """Return the names of the scripts that a script requires, in order."""
    return tuple(name for line in _REQUIRES_PATTERN.findall(text) for name in line.split(", "))


def load_script_parameters(
    script: Script, loader: ScriptLoader = load_script, *, required_loader: ScriptLoader | None = None
) -> Mapping[str, str]:
    """Return the parameters of a script that contain the texts of other scripts.

    ``loader`` gives its text, ``required_loader`` those of the other scripts; None: ``load_script``.
    """
    lines = _BRINGS_PATTERN.findall(loader(script.name, script.package))
    pairs = [pair.partition("=") for line in lines for pair in line.split(", ")]
    load = required_loader or load_script
    return {
        parameter: compose_script(Script(name, package=script.package), load, required_loader=load)
        for parameter, _, name in pairs
    }


def compose_script(
    script: Script, loader: ScriptLoader = load_script, *, required_loader: ScriptLoader | None = None
) -> str:
    """Return a script's text, after the texts of the scripts that it requires.

    ``loader`` gives its text, ``required_loader`` those of the scripts that it requires; None: ``load_script``.
    """
    load_required = required_loader or load_script
    texts: dict[str, str] = {}

    def add_required(text: str) -> None:
        for name in find_required_scripts(text):
            if name not in texts:
                required = load_required(name, script.package)
                add_required(required)
                texts[name] = required

    text = loader(script.name, script.package)
    add_required(text)
    return "\n".join([*texts.values(), text])
