"""The sites of a fleet, and the site of this process.

A site is the place from which its machines are reached: only there are their routes, keys and secrets. A process
connects to machines of its own site alone.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from inventory.errors import InventoryError
from inventory.machine import DEFAULT_SITE, Machine

SITE_VARIABLE: Final = "FLEETPATCH_SITE"
SITE_PATTERN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""The name of a site is part of the names of work pools and deployments."""
SITE_NAME_HINT: Final = "Use up to 40 small letters, digits and '-', beginning and ending with a letter or a digit."

_current_site: ContextVar[str] = ContextVar("fleetpatch_site", default="")


def find_site() -> str:
    """Return the site of this process: that of its flow run, else FLEETPATCH_SITE, else the default site.

    Raises:
        InventoryError: the variable is no usable name.
    """
    return _current_site.get() or find_environment_site() or DEFAULT_SITE


def find_environment_site() -> str:
    """Return the site in FLEETPATCH_SITE; "" if it is not set. Raise InventoryError if it is no usable name."""
    site = os.environ.get(SITE_VARIABLE, "")
    if site and not SITE_PATTERN.fullmatch(site):
        raise InventoryError(f"{SITE_VARIABLE}={site!r} is no usable name for a site", hint=SITE_NAME_HINT)
    return site


@contextmanager
def use_site(site: str) -> Iterator[None]:
    """Use this site in the block, also in threads that copy its context."""
    token = _current_site.set(site)
    try:
        yield
    finally:
        _current_site.reset(token)


def explain_other_site(machine: Machine, site: str) -> str:
    """Return why a process of a site does not connect to a machine; "" if it does. Pure."""
    if machine.site == site:
        return ""
    return f"it is reached from the site {machine.site} only, and this process belongs to the site {site}"
