"""Checks the files of components on this controller, which it sends to machines."""

import hashlib
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tasks.domain.components import Component, ComponentVersion
from tasks.domain.errors import RequestError

_turn = Lock()  # all machines of a run ask for the same files at the same time


def require_own_file(component: Component, version: ComponentVersion) -> None:
    """Check the file of a version, if the controller has it, before any machine gets it.

    A file is read once by a process, and again when it was changed.

    Raises:
        RequestError: it can't be read, or has another digest.
    """
    if not version.file:
        return
    try:
        with _turn:
            state = Path(version.file).stat()
            digest = _compute_digest(version.file, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    except OSError as error:
        raise RequestError(
            f"the file of {component.name} {version.version} can't be read: {version.file}: {error.strerror}",
            hint="Put it there, or correct `file` in components.yaml.",
        ) from error
    if digest != version.digest:
        raise RequestError(
            f"{version.file} is not the file of {component.name} {version.version}: its digest is {digest}",
            hint="Find out who changed it. If it is the right file, correct `sha256` in components.yaml.",
        )


@lru_cache(maxsize=256)
def _compute_digest(path: str, *_state: int) -> str:
    with Path(path).open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
