"""Which variables of its own environment fleetpatch hands to programs that it starts here. Pure.

The rest stays with it: URLs of databases with their passwords, API keys, and whatever else its service was given.
"""

from collections.abc import Iterable, Mapping
from typing import Final

PASSED_VARIABLES: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    | {f"XDG_{what}" for what in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR", "STATE_HOME")}
)
"""These, and those of the locale (``LC_…``)."""
EXTRA_HOOK_VARIABLES_SETTING: Final = "FLEETPATCH_HOOK_ENVIRONMENT"
"""Names further variables for hooks, with blanks between them."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build_child_environment(environment: Mapping[str, str], extra_names: Iterable[str] = ()) -> dict[str, str]:
    """Return what is passed on of an environment.

    Args:
        environment: of this process.
        extra_names: names of variables that are passed on besides the usual ones.
    """
    wanted = PASSED_VARIABLES | set(extra_names)
    kept = {name: value for name, value in environment.items() if name in wanted or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH, **kept}


def build_hook_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is passed on to hooks: the owner may name more."""
    return build_child_environment(environment, environment.get(EXTRA_HOOK_VARIABLES_SETTING, "").split())
