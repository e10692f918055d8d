"""Checks the files of components on this controller, which it sends to machines."""

import hashlib
from pathlib import Path

from tasks.domain.components import Component, ComponentVersion
from tasks.domain.errors import RequestError


def require_own_file(component: Component, version: ComponentVersion) -> None:
    """Check the file of a version, if the controller has it, before any machine gets it.

    Raises:
        RequestError: it can't be read, or has another digest.
    """
    if not version.file:
        return
    try:
        with Path(version.file).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(
            f"the file of {component.name} {version.version} can't be read: {version.file}: {error.strerror}",
            hint="Put it there, or correct `file` in components.yaml.",
        ) from error
    if digest != version.sha256:
        raise RequestError(
            f"{version.file} is not the file of {component.name} {version.version}: its digest is {digest}",
            hint="Find out who changed it. If it is the right file, correct `sha256` in components.yaml.",
        )
