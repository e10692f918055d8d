"""Settings that every Prefect server of fleetpatch gets, and who can have written others before Prefect is loaded.

Settings choose Prefect's server, and code to run. Prefect 3.8.8 reads them when it is imported, and again later
(prefect/settings/sources.py): ``.env``, ``prefect.toml`` and ``pyproject.toml`` of the current folder, its profiles,
and ``logging.yml``, which can name any function to call.

The measured numbers come from runs of this project against Prefect 3.8.8: 1000 to 3000 task runs mapped over 50
threads, on two cores, SQLite and PostgreSQL 15.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from inventory.data_class import dataclass
from inventory.files.file_trust import (
    CALLER_HINT,
    TRUSTED_OWNERS_VARIABLE,
    UntrustedFile,
    require_trusted_folder,
    require_trusted_path,
)

HEALTHY_RESPONSE = b"true"
"""The response of a Prefect server to ``/health``. A proxy's page differs."""


class SettingTarget(StrEnum):
    """The process that needs a setting."""

    SERVER = "server"
    WORKER = "worker"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class PrefectSetting:
    """An environment variable, and why it is set."""

    name: str  # the name that Prefect reads; of several, the first: it wins over the others
    value: str  # the value, unless the environment already has one
    reason: str  # why, in one sentence
    target: SettingTarget = SettingTarget.SERVER  # the process that needs it


GUARD_SETTINGS = (
    PrefectSetting(
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED",
        "true",
        "A web page can't send requests through your browser: each needs a token that only the UI and clients read.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_EPHEMERAL_ENABLED",
        "false",
        "Without the URL of a server, Prefect would start one without a password, for every user and web page.",
        SettingTarget.BOTH,
    ),
)
"""Settings that keep other users and web pages away from a server. Each server of ours has them, whatever is set."""
EPHEMERAL_MODE_OFF = {GUARD_SETTINGS[1].name: GUARD_SETTINGS[1].value}
ALLOWED_ORIGINS_VARIABLE = "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"
UI_ENABLED_VARIABLE = "PREFECT_SERVER_UI_ENABLED"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""For each process that starts Prefect's: `python -m` searches modules in the current folder first, where anybody may
have put one (Python's documentation of PYTHONSAFEPATH). Prefect starts a run so."""

BATCH_SETTINGS = (
    # Task runs reach the database through a queue in memory. A full queue (10 000 events) drops new events. With the
    # default of one row for each transaction the recorder writes 10 to 40 a second: 5891 of 9300 task runs ever
    # appeared. In batches it writes more than 350 a second: 5100 of 5100. With this whole table, on SQLite: 3000 of
    # 3000.
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE",
        "200",
        "Task runs are written 200 at a time: one at a time, a large run loses a third of them.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE",
        "200",
        "They are read from the queue as quickly; it drops what comes when it is full.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL",
        "1",
        "An incomplete batch waits for one second, not five: states are seen when they are true.",
    ),
    # Each consumer has its own queue of this kind. Automations that miss events don't see runs that died. The persister
    # is the slowest: 18 s after those 3000 task runs it had stored twice as many events as with its default of one at a
    # time.
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE",
        "200",
        "Automations keep up with a large run's events; else they miss runs that died.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE",
        "200",
        "Events are written 200 at a time: there are three for each task run.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE", "200", "They are read from their queue as quickly."
    ),
)
"""Without these settings a server loses a third of a large run's task runs, and uses more than twice the CPU time."""

RUN_SETTINGS = (
    PrefectSetting(
        "PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED",
        "false",
        "Nobody listens to the events: the server has no pages, and only the run and its processes know its password.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT",
        "60",
        "The run asks every five seconds, which is when a server closes an unused connection by default.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START",
        "false",
        "A run loads blocks that are there. A program that makes one stores its type, and `fleetpatch server` all.",
    ),
    PrefectSetting(
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION", "false", "To look whether types are stored loads all of them."
    ),
)
"""What a server for the time of one run does otherwise. These settings win over BATCH_SETTINGS."""


def names_all_origins(origins: str) -> bool:
    """Return whether a list of origins, with commas between them, lets each web page read the server."""
    return any(origin.strip() == "*" for origin in origins.split(","))


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


def may_name_server(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a variable, a file of settings, or Prefect itself may name a server. Prefect need not be loaded.

    Args:
        environ: the environment of the process that asks. Prefect reads names of variables in any case.
    """
    variables = {name.upper(): name for name, value in environ.items() if value}
    named = ("PREFECT_API_URL", "PREFECT_PROFILE", *_PATH_VARIABLES)
    if f"{PREFECT}.context" in sys.modules or any(name in variables for name in named):
        return True
    if _HOME_VARIABLE in variables and variables[_HOME_VARIABLE] != _HOME_VARIABLE:
        return True
    home = _find_home(environ)
    return any(path.exists() for path in (*map(Path, FOLDER_FILES), *(home / name for name in _HOME_FILES)))


def _find_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(_HOME_VARIABLE) or "~/.prefect").expanduser()


def require_trusted_settings(environ: Mapping[str, str] = os.environ) -> None:
    """Check who can have written the files of settings, and who can put some into their folders later.

    Args:
        environ: the environment of the process that reads them.

    Raises:
        UntrustedFile: somebody who is not trusted, or a file can't be looked at.
    """
    home = _find_home(environ)
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
