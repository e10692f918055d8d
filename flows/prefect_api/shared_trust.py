"""Prefect's clients share the certificates that they trust.

Each client of Prefect 3.8.8 loads all of them again: 30 ms of a processor, twenty times in a run, for servers without
TLS too.
"""

import ssl
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from prefect.client import orchestration

_MOST_FILES: Final = 8


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


def share_trust() -> None:
    """Let all clients of Prefect in this process share what they trust, from now on."""
    shared = SimpleNamespace(**vars(ssl))
    shared.create_default_context = create_context
    setattr(orchestration, "ssl", shared)  # noqa: B010 - Prefect has no setting for it
