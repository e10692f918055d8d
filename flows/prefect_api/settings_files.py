"""Looks who can have written Prefect's settings before Prefect is loaded: they choose its server and code to run.

Prefect 3.8.8 reads them when it is imported, and again later (prefect/settings/sources.py): ``.env``, ``prefect.toml``
and ``pyproject.toml`` of the current folder, its profiles, and ``logging.yml``, which can name any function to call.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from inventory.files.file_trust import (
    TRUSTED_OWNERS_VARIABLE,
    UntrustedFile,
    require_trusted_folder,
    require_trusted_path,
)

PREFECT: Final = "prefect"
FOLDER_FILES: Final = (".env", "prefect.toml", "pyproject.toml")
"""What Prefect reads in the current folder."""
_PATH_VARIABLES: Final = ("PREFECT_PROFILES_PATH", "PREFECT_LOGGING_CONFIG_PATH", "PREFECT_LOGGING_SETTINGS_PATH")
_HOME_VARIABLE: Final = "PREFECT_HOME"
_FOLDER_HINT: Final = (
    "Start fleetpatch in a folder where only you can make files, such as your home directory. Or, where others may "
    f"decide what runs, name the folder's owner in {TRUSTED_OWNERS_VARIABLE}."
)


def require_trusted_settings() -> None:
    """Check who can have written the files of settings, and who can put some into the current folder later.

    Raises:
        UntrustedFile: somebody who is not trusted, or a file can't be looked at.
    """
    for path in _list_files():
        with _named(path, "Or start fleetpatch in another folder." if path.name in FOLDER_FILES else ""):
            require_trusted_path(path)
    with _named(Path(), _FOLDER_HINT):
        require_trusted_folder(Path.cwd())


@contextmanager
def check_before_prefect() -> Iterator[None]:
    """Check the files at the first import of Prefect in the block, if there is one.

    The import raises UntrustedFile.
    """
    finder = _SettingsCheck()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):  # it has gone after its check
            sys.meta_path.remove(finder)


class _SettingsCheck:
    """A finder of modules that finds none: it checks when Prefect is looked for (``sys.meta_path``)."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name == PREFECT:
            require_trusted_settings()
        return None


def _list_files() -> list[Path]:
    home = Path(os.environ.get(_HOME_VARIABLE) or "~/.prefect").expanduser()
    named = [Path(os.environ[name]).expanduser() for name in _PATH_VARIABLES if os.environ.get(name)]
    return [*map(Path, FOLDER_FILES), home / "profiles.toml", home / "logging.yml", *named]


@contextmanager
def _named(path: Path, remedy: str) -> Iterator[None]:
    """Let the error name the file, and another way out. What does not exist is no fault."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UntrustedFile(f"{path.absolute()} can't be looked at: {error.strerror}", hint=_FOLDER_HINT) from error
    except UntrustedFile as error:
        raise UntrustedFile(
            f"Prefect would read its settings from {path.absolute()}, and {error.message}",
            hint=remedy if path == Path() else f"{error.hint} {remedy}".strip(),
        ) from error
