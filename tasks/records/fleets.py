"""The fleet of a process, and the place of its records in a database that several fleets share.

Each fleet has tables of its own: on PostgreSQL in a schema, on SQLite in a file beside that of the fleet "default". So
no query can mix two machines, configurations or runs that have the same name. Pure, but for the environment.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from tasks.domain.errors import RecordsError

DEFAULT_FLEET: Final = "default"
"""The fleet of all who name none."""
FLEET_VARIABLE: Final = "FLEETPATCH_FLEET"
REPLACED_PREFIX: Final = "replaced_"
"""The beginning of the name of a schema with records that a restoration has replaced: they are no fleet's any more."""
_SCHEMA_PREFIX: Final = "fleet_"
_LONGEST_NAME: Final = 200
_PLAIN_NAME: Final = re.compile("[a-z0-9][a-z0-9_-]{0,31}")
_HEAD_LENGTH: Final = 24

_current_fleet: ContextVar[str] = ContextVar("fleetpatch_fleet", default="")


def find_fleet() -> str:
    """Return the fleet whose records this process uses: that of the flow run or option, else FLEETPATCH_FLEET.

    Raises:
        RecordsError: the variable is no usable name.
    """
    return _current_fleet.get() or find_environment_fleet() or DEFAULT_FLEET


def find_environment_fleet() -> str:
    """Return the fleet in FLEETPATCH_FLEET; "" if it is not set. Raise RecordsError if it is no usable name."""
    fleet = os.environ.get(FLEET_VARIABLE, "")
    return require_fleet_name(fleet, f"{FLEET_VARIABLE}={fleet!r}") if fleet else ""


@contextmanager
def use_fleet(fleet: str) -> Iterator[None]:
    """Use the records of this fleet in the block, also in threads and in processes that begin there.

    Raises:
        RecordsError: the name is not usable.
    """
    token, before = _current_fleet.set(require_fleet_name(fleet)), os.environ.get(FLEET_VARIABLE)
    os.environ[FLEET_VARIABLE] = fleet
    try:
        yield
    finally:
        _current_fleet.reset(token)
        if before is None:
            os.environ.pop(FLEET_VARIABLE, None)
        else:
            os.environ[FLEET_VARIABLE] = before


def require_fleet_name(fleet: str, shown: str = "") -> str:
    """Return the name of a fleet if it is usable.

    ``shown``: how an error shows it.

    Raises:
        RecordsError: it is empty, too long, or has characters that can't be printed.
    """
    if fleet.strip() and fleet.isprintable() and len(fleet) <= _LONGEST_NAME:
        return fleet
    hint = f"Give 1 to {_LONGEST_NAME} characters that can be printed, as in: fleetpatch deploy --fleet site-a"
    raise RecordsError(f"{shown or repr(fleet)} is no usable name for a fleet", hint=hint)


def build_schema_name(fleet: str) -> str:
    """Return the fleet's schema in PostgreSQL, of a-z, 0-9, "_", "-" and "~"; "" for the one without a choice."""
    return "" if fleet == DEFAULT_FLEET else f"{_SCHEMA_PREFIX}{build_slug(fleet)}"


def build_file_path(path: Path, fleet: str) -> Path:
    """Return the fleet's SQLite file, in the folder of the given one: records.db, records@site-a.db."""
    return path if fleet == DEFAULT_FLEET else path.with_name(f"{path.stem}@{build_slug(fleet)}{path.suffix}")


def build_slug(fleet: str) -> str:
    """Return a name for schemas and files. Two fleets never have the same: others than plain names get a digest."""
    if _PLAIN_NAME.fullmatch(fleet):
        return fleet
    head = re.sub("[^a-z0-9_-]+", "-", fleet.lower())[:_HEAD_LENGTH].strip("-")
    return f"{head}~{hashlib.sha256(fleet.encode()).hexdigest()[:16]}"
