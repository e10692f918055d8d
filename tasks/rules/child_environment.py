"""The environment variables that fleetpatch passes to programs that it starts on the controller. Pure.

It passes no other variables, because they may contain secrets: database URLs with passwords, API keys.
"""

from collections.abc import Iterable, Mapping
from typing import Final

PASSED_VARIABLES: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    | {f"XDG_{what}" for what in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR", "STATE_HOME")}
)
"""Variables that are always passed, in addition to those of the locale (``LC_…``)."""
EXTRA_HOOK_VARIABLES_SETTING: Final = "FLEETPATCH_HOOK_ENVIRONMENT"
"""The variable that lists further variables for hooks, separated by blanks."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build_child_environment(environment: Mapping[str, str], extra_names: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment for a child process."""
    passed_names = PASSED_VARIABLES | set(extra_names)
    passed = {name: value for name, value in environment.items() if name in passed_names or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH, **passed}


def build_hook_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a hook, with the variables that the owner has added."""
    return build_child_environment(environment, environment.get(EXTRA_HOOK_VARIABLES_SETTING, "").split())
