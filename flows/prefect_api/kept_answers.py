"""What Prefect 3.8.8 finds out again and again, though it stays as it is, is found out once in a process.

Each of its clients loads all certificates that it trusts: 30 ms of a processor, twenty times in a run, for servers
without TLS too. And for each schedule that it reads, it looks for the names of time zones in some 600 files: 12 ms,
three times for each deployment in a server, and once in the client.
"""

import ssl
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from prefect.client import orchestration
from prefect.types import _datetime

from inventory.schema.value_types import load_zone_names

_MOST_FILES: Final = 8


@lru_cache(_MOST_FILES)
def _load_trust(path: str, modified_at: int, size: int) -> ssl.SSLContext:
    del modified_at, size  # a file that was changed is loaded again
    return ssl.create_default_context(cafile=path)


def create_context(*, cafile: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file, the same for all, or else one of its own.

    If its settings say so, Prefect changes a context without a file, and it trusts every server. So it is not shared.

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
    setattr(_datetime, "available_timezones", load_zone_names)  # noqa: B010 - nor for this
