"""Looks who can have written Prefect's settings before Prefect is loaded: they choose its server and code to run.

Prefect 3.8.8 reads them when it is imported, and again later (prefect/settings/sources.py): ``.env``, ``prefect.toml``
and ``pyproject.toml`` of the current folder, its profiles, and ``logging.yml``, which can name any function to call.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from flows.prefect_api.server_settings import EPHEMERAL_MODE_OFF
from inventory.files.file_trust import (
    CALLER_HINT,
    TRUSTED_OWNERS_VARIABLE,
    UntrustedFile,
    require_trusted_folder,
    require_trusted_path,
)

PREFECT: Final = "prefect"
FOLDER_FILES: Final = (".env", "prefect.toml", "pyproject.toml")
"""What Prefect reads in the current folder."""
_HOME_FILES: Final = ("profiles.toml", "logging.yml")
"""What it reads in its own folder."""
TELEMETRY_OFF: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",  # https://consoledonottrack.com; Prefect's client heeds only this one
}
_PATH_VARIABLES: Final = ("PREFECT_PROFILES_PATH", "PREFECT_LOGGING_CONFIG_PATH", "PREFECT_LOGGING_SETTINGS_PATH")
_HOME_VARIABLE: Final = "PREFECT_HOME"
_FOLDER_HINT: Final = (
    "Start fleetpatch in a folder where only you can make files, such as your home directory. Or, where others may "
    f"decide what runs, name the folder's owner in {TRUSTED_OWNERS_VARIABLE}."
)
_ABSENT_HINT: Final = "Name a place where only you can make files."


def guard_prefect() -> None:
    """Let Prefect start no server of its own, read no settings of others, and send nothing to its makers.

    Where Prefect is loaded already, its settings are checked now, and read again.

    Raises:
        UntrustedFile: it is loaded, and somebody who is not trusted may have written its settings.
    """
    os.environ.update(EPHEMERAL_MODE_OFF)
    os.environ.update({name: value for name, value in TELEMETRY_OFF.items() if not os.environ.get(name)})
    context = sys.modules.get(f"{PREFECT}.context")
    if context is None:
        sys.meta_path.insert(0, _SettingsCheck())
        return
    require_trusted_settings()
    context.refresh_global_settings_context()
    context.get_settings_context().settings.server.ephemeral.enabled = False  # a program may have replaced the settings


def require_trusted_settings(environ: Mapping[str, str] = os.environ) -> None:
    """Check who can have written the files of settings, and who can put some into their folders later.

    Args:
        environ: the environment of the process that reads them.

    Raises:
        UntrustedFile: somebody who is not trusted, or a file can't be looked at.
    """
    home = Path(environ.get(_HOME_VARIABLE) or "~/.prefect").expanduser()
    with suppress(OSError):  # as Prefect does it, which says so where it can't; nobody else makes it meanwhile
        home.mkdir(mode=0o700, exist_ok=True)
    named = [Path(environ[name]).expanduser() for name in _PATH_VARIABLES if environ.get(name)]
    for path in (*map(Path, FOLDER_FILES), *(home / name for name in _HOME_FILES), *named):
        with _named(path, "Or start fleetpatch in another folder." if path.name in FOLDER_FILES else ""):
            require_trusted_path(path)
    with _named(Path(), _FOLDER_HINT, is_whole=True):
        require_trusted_folder(Path.cwd())
    with _named(home, ""):
        require_trusted_folder(home)
    for path in (home, *named):
        if not path.exists():
            with _named(path, _ABSENT_HINT, is_whole=True):
                require_trusted_folder(next(above for above in path.resolve().parents if above.is_dir()))


class _SettingsCheck:
    """A finder of modules that finds none: it checks when Prefect is looked for (``sys.meta_path``)."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name == PREFECT:
            require_trusted_settings()
        return None


@contextmanager
def _named(path: Path, remedy: str, *, is_whole: bool = False) -> Iterator[None]:
    """Let the error name the file, and another way out; the only one if that is whole. What is absent is no fault."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UntrustedFile(f"{path.absolute()} can't be looked at: {error.strerror}", hint=_FOLDER_HINT) from error
    except UntrustedFile as error:
        if error.hint.startswith(CALLER_HINT):
            hint = error.hint
        else:
            hint = remedy if is_whole else f"{error.hint} {remedy}".strip()
        message = f"Prefect would read its settings from {path.absolute()}, and {error.message}"
        raise UntrustedFile(message, hint=hint) from error
