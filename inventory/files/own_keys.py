"""Private keys and passwords that fleetpatch makes for itself: files that only their owner can read.

A service gets them from systemd (`LoadCredential=fleetpatch-NAME:PATH`), or they are in a folder of the user. Programs
that need the same key run as the same user, or an administrator gives each of them a copy.
"""

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

from inventory.errors import FleetpatchError
from inventory.files.paths import ensure_private_directory, expand_home, find_user_directory

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
"""The folder of credentials that systemd makes for a service: systemd.exec(5)."""
CREDENTIAL_PREFIX: Final = "fleetpatch-"
FOLDER_VARIABLE: Final = "FLEETPATCH_KEYS"
"""Names another folder of keys."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MAX_BYTES: Final = 64 * 1024


class KeyFileError(FleetpatchError):
    """A private file is missing, somebody else can read it, or it can't be made."""


def create_secret() -> bytes:
    """Return 256 random bits as printable ASCII."""
    return secrets.token_urlsafe(32).encode()


def find_key_folder() -> Path:
    """Return the folder of keys. It may not exist yet.

    Raises:
        KeyFileError: the user has no home directory, or the setting is no path.
    """
    if named := os.environ.get(FOLDER_VARIABLE):
        return expand_home(Path(named), KeyFileError).absolute()
    remedy = f"name a folder that only this user can read with {FOLDER_VARIABLE}"
    return find_user_directory(platformdirs.user_data_path, KeyFileError, remedy) / "keys"


def find_key_path(name: str) -> Path:
    """Return the file of a key: the credential of systemd if there is one, else the file in the folder of keys.

    Args:
        name: lower case letters, digits and hyphens.

    Raises:
        KeyFileError: the folder is not known.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a key")
    if folder := os.environ.get(CREDENTIALS_VARIABLE):
        credential = Path(folder, CREDENTIAL_PREFIX + name)
        if credential.exists():
            return credential
    return find_key_folder() / name


def read_key(name: str) -> bytes | None:
    """Return a key, or None if there is none.

    Raises:
        KeyFileError: it can't be read, it is empty, or others than its owner can read it.
    """
    path = find_key_path(name)
    is_credential = path.name != name
    follow = 0 if is_credential else os.O_NOFOLLOW  # Kubernetes makes each file of a secret a link to ..data/
    try:
        descriptor = os.open(path, os.O_RDONLY | follow | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} can't be read: {error.strerror}", hint=_REMEDY) from error
    with os.fdopen(descriptor, "rb") as stream:
        if is_credential and not Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(
            os.path.realpath(path.parent)
        ):
            raise KeyFileError(f"{path} is a link that leads out of its folder", hint=_REMEDY)
        if fault := _find_fault(os.fstat(descriptor), is_credential=is_credential):
            raise KeyFileError(f"{path} {fault}", hint=f"{_REMEDY} If others could read it, replace it.")
        key = stream.read(_MAX_BYTES).strip()
    if not key:
        raise KeyFileError(f"{path} is empty", hint="Restore it from a backup; or remove it, and a new one is made.")
    return key


def ensure_key(name: str, create: Callable[[], bytes] = create_secret) -> bytes:
    """Return a key. The first call makes it. Of several first calls at the same time, all get the same key.

    Args:
        name: lower case letters, digits and hyphens.
        create: returns a new key. White space at its ends is not part of it.

    Raises:
        KeyFileError: it can't be read or made, or others than its owner can read it.
    """
    key = read_key(name)
    if key is None:
        create_key_file(find_key_folder() / name, create())
        key = read_key(name)
    if key is None:
        raise KeyFileError(f"{find_key_path(name)} was removed while it was read", hint="Start again.")
    return key


_REMEDY: Final = "It is to be a file of mode 0600 whose owner is the user of this program, or root."


def _find_fault(status: os.stat_result, *, is_credential: bool) -> str:
    """Return why a file is not private, as the end of a sentence, or "".

    systemd lets the service's user read a credential by an access list. Its mask looks like a right of the group.
    """
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid not in {0, os.geteuid()}:
        return f"belongs to another user (uid {status.st_uid})"
    if stat.S_IMODE(status.st_mode) & (0o007 if is_credential else 0o077):
        return f"can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def create_key_file(path: Path, content: bytes) -> None:
    """Make a private file, complete or not at all. A file that is there stays.

    Raises:
        KeyFileError: it can't be made, or others can write to its folder.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        ensure_private_directory(path.parent)
        folder = path.parent.stat()
        if folder.st_uid not in {0, os.geteuid()} or folder.st_mode & 0o022:
            raise KeyFileError(f"others can write to {path.parent}", hint="Make it a folder of mode 0700 of this user.")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content + b"\n")
                stream.flush()
                os.fsync(descriptor)
            os.link(partial, path)
        except FileExistsError:
            return  # another process was first
        finally:
            partial.unlink()
    except OSError as error:
        hint = f"Make a folder that only this user can write, and name it with {FOLDER_VARIABLE}."
        raise KeyFileError(f"{path} can't be made: {error.strerror}", hint=hint) from error
