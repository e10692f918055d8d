"""Which variables of its own environment fleetpatch hands to programs that it starts here. Pure.

The rest stays with it: URLs of databases with their passwords, API keys, and whatever else its service was given.
"""

from collections.abc import Iterable, Mapping
from typing import Final

PASSED: Final = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    | {f"XDG_{what}" for what in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR", "STATE_HOME")}
)
"""These, and those of the locale (``LC_…``)."""
ALSO: Final = "FLEETPATCH_HOOK_ENVIRONMENT"
"""Names further variables for hooks, with blanks between them."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def minimal(environment: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """Return what is passed on of an environment.

    Args:
        environment: of this process.
        also: names of variables that are passed on besides the usual ones.
    """
    wanted = PASSED | set(also)
    kept = {name: value for name, value in environment.items() if name in wanted or name.startswith("LC_")}
    return {"PATH": PATH, **kept}


def of_hooks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is passed on to hooks: the owner may name more."""
    return minimal(environment, environment.get(ALSO, "").split())
