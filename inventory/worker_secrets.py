"""What is the controller's own, and never the credential of a machine: its variables, and its private files.

Who writes an inventory need not have the rights of the worker. A reference to the password of the records would send it
to a machine that the writer chose.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import platformdirs

from inventory.errors import CredentialError
from inventory.files.private_keys import CREDENTIAL_PREFIX, CREDENTIALS_VARIABLE, find_key_folder

OWN_VARIABLES: Final = re.compile(
    r"(FLEETPATCH|PREFECT|VAULT|BAO|AWS|AZURE|ARM|GOOGLE)_\w+|PG[A-Z]+|(HTTPS?|ALL)_PROXY|CREDENTIALS_DIRECTORY",
    re.IGNORECASE,
)
"""Variables of fleetpatch, of Prefect, and of what both talk to: secret stores, clouds, PostgreSQL, proxies.

Those of clouds and proxies are read by libraries, and hold the rights of the controller itself.
"""
_SYSTEM_FOLDERS: Final = ("/proc", "/sys", "/dev")
"""Not files: /proc/self/environ is the worker's environment."""
_HINT: Final = "It belongs to fleetpatch itself, and would be sent to a machine. Name a secret of the machine."


def require_foreign_variable(name: str) -> None:
    """Check that a variable may be a credential of a machine.

    Raises:
        CredentialError: it is one of the controller's own.
    """
    if OWN_VARIABLES.fullmatch(name):
        raise CredentialError(f"the variable {name} is no credential of a machine", hint=_HINT)


def require_foreign_systemd_credential(name: str) -> None:
    """Check that a credential of systemd may be that of a machine.

    Raises:
        CredentialError: it is one of fleetpatch's own keys.
    """
    if name.startswith(CREDENTIAL_PREFIX):
        raise CredentialError(f"systemd's credential {name} is no credential of a machine", hint=_HINT)


def require_foreign_target(kind: str, target: str) -> None:
    """Check that no variable of the controller refers to the same secret: ``FLEETPATCH_VAULT_TOKEN=env:TOKEN``.

    Args:
        kind: of a reference (inventory/credential_references.py): "env", "systemd", "vault", "prefect".
        target: the name in it.

    Raises:
        CredentialError: a variable does.
    """
    if _unify(kind, target) in {_unify(*reference) for reference in _iterate_own_references()}:
        raise CredentialError(f"{kind}:{target} is no credential of a machine", hint=_HINT)


def _unify(kind: str, target: str) -> tuple[str, str]:
    """Return one form of a reference: a block's type before its name changes nothing, nor does a second slash."""
    return kind, target.rpartition("/")[2] if kind == "prefect" else re.sub("/+", "/", target)


def _iterate_own_references() -> Iterator[tuple[str, str]]:
    """Yield kind and target of what the controller's variables refer to."""
    for name, value in os.environ.items():
        if OWN_VARIABLES.fullmatch(name):
            kind, colon, target = value.strip().partition(":")
            if colon:
                yield kind, target


def require_foreign_file(path: Path, descriptor: int) -> None:
    """Check that an open file may be a credential of a machine. Links were followed as it was opened.

    Args:
        path: its name, for the message.
        descriptor: the open file.

    Raises:
        CredentialError: it is one of the controller's own.
    """
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    opened = os.fstat(descriptor)
    if (
        any(real.is_relative_to(folder) for folder in _iterate_own_folders())
        or any((status.st_dev, status.st_ino) == (opened.st_dev, opened.st_ino) for status in _iterate_own_files())
        or _is_own_systemd_credential(real)
    ):
        raise CredentialError(f"the file {path} is no credential of a machine", hint=_HINT)


def _is_own_systemd_credential(path: Path) -> bool:
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    if not folder or not path.is_relative_to(os.path.realpath(folder)):
        return False
    return path.name.startswith(CREDENTIAL_PREFIX)


def _iterate_own_folders() -> Iterator[str]:
    yield from _SYSTEM_FOLDERS
    yield os.path.realpath(find_key_folder())
    with suppress(RuntimeError):  # a user without a home directory has no such folders
        yield os.path.realpath(platformdirs.user_data_path("fleetpatch"))
        yield os.path.realpath(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())


def _iterate_own_files() -> Iterator[os.stat_result]:
    """Yield the controller's own keys, and what its variables name: tokens, certificates' keys, the records in SQLite.

    A container may have the file of a key at a second place: Docker mounts a secret from the machine's own file.
    """
    keys = [entry for entry in _iterate_entries(find_key_folder()) if entry.is_file()]
    if folder := os.environ.get(CREDENTIALS_VARIABLE):
        keys += [entry for entry in _iterate_entries(Path(folder)) if entry.name.startswith(CREDENTIAL_PREFIX)]
    for key in keys:
        with suppress(OSError):
            yield key.stat()
    for kind, target in _iterate_own_references():
        file = Path(os.environ.get(CREDENTIALS_VARIABLE, ""), target) if kind == "systemd" else Path(target)
        with suppress(OSError, RuntimeError, ValueError):
            yield file.expanduser().stat()
    for name, value in os.environ.items():
        if OWN_VARIABLES.fullmatch(name):
            named = value.partition("://")[2].partition("?")[0] or value
            for path in {named, named.removeprefix("/")}:  # sqlite:////absolute, sqlite:///relative
                with suppress(OSError, ValueError):
                    yield os.stat(path)  # noqa: PTH116 - Path.stat has the same errors, and this takes any text
    with suppress(OSError, RuntimeError):
        yield Path("~/.pgpass").expanduser().stat()


def _iterate_entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):  # it does not exist, or this user can't list it
        yield from folder.iterdir()
