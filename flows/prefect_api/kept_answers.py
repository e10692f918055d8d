"""What Prefect 3.8.8 finds out again and again, though it stays as it is, is found out once in a process.

Each of its clients loads all certificates that it trusts: 30 ms of a processor, twenty times in a run, for servers
without TLS too. And for each schedule that it reads, it looks for the names of time zones in some 600 files: 12 ms,
three times for each deployment in a server, and once in the client.
"""

import ssl
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from zoneinfo import available_timezones

from prefect.client import orchestration
from prefect.types import _datetime

_MOST_FILES: Final = 8


@cache
def find_zone_names() -> frozenset[str]:
    """Return the names of all time zones that there were when it was first asked."""
    return frozenset(available_timezones())


@lru_cache(_MOST_FILES)
def _load_trust(path: str, modified_at: int, size: int) -> ssl.SSLContext:
    del modified_at, size  # a file that was changed is loaded again
    return ssl.create_default_context(cafile=path)


def create_context(*, cafile: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file, the same for all, or else one of its own.

    Prefect makes a context without a file trust everybody, where its settings say so: nobody else may have that one.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not cafile:
        return ssl.create_default_context()
    status = Path(cafile).stat()
    return _load_trust(str(cafile), status.st_mtime_ns, status.st_size)


def keep_answers() -> None:
    """Let Prefect in this process, its clients and its server, keep both from now on."""
    shared = SimpleNamespace(**vars(ssl))
    shared.create_default_context = create_context
    setattr(orchestration, "ssl", shared)  # noqa: B010 - Prefect has no setting for it
    setattr(_datetime, "available_timezones", find_zone_names)  # noqa: B010 - nor for this
