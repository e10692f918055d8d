"""Backs up the keys and passwords that fleetpatch made, in a file of their own: never in that of the records."""

import re
from pathlib import Path
from typing import Final

from inventory.files.private_keys import create_key_file, find_key_folder, read_key
from tasks.domain.errors import RecordsError
from tasks.records.backup.archive import (
    build_taken_error,
    make_private_folder,
    publish_file,
    read_members,
    write_archive,
)

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_HEAD: Final = re.compile(r"(audit|decisions)-head-.*")
"""What this computer has seen of chains. It belongs to the computer, and is no key."""
_LARGEST: Final = 64 * 1024


def require_free_key_name(path: Path) -> None:
    """Refuse a name that is taken: keys are never overwritten.

    Raises:
        RecordsError: it is taken, or its folder is none.
    """
    if not path.parent.is_dir():
        raise RecordsError(f"there is no folder {path.parent}", hint="Make it, or name a file elsewhere.")
    if path.exists() or path.is_symlink():
        raise build_taken_error(path)


def back_up_keys(path: Path) -> tuple[str, ...]:
    """Write the keys of this user to a private file. Return their names.

    Raises:
        RecordsError: there are none, or the file can't be written.
        KeyFileError: a key can't be read, or others can read it.
    """
    folder = find_key_folder()
    names = sorted(each.name for each in folder.iterdir() if _is_key(each)) if folder.is_dir() else []
    keys = {name: key for name in names if (key := read_key(name)) is not None}
    if not keys:
        raise RecordsError(f"there are no keys in {folder}", hint="Name their folder with FLEETPATCH_KEYS.")
    with make_private_folder(path) as work:
        try:
            write_archive(work / "keys", {name: key + b"\n" for name, key in keys.items()})
            publish_file(work / "keys", path, overwrite=False)
        except OSError as error:
            raise RecordsError(f"can't write {path}: {error.strerror or error}", hint="Name another file.") from error
    return tuple(keys)


def _is_key(path: Path) -> bool:
    return path.is_file() and _NAME.fullmatch(path.name) is not None and not _HEAD.fullmatch(path.name)


def read_key_backup(path: Path) -> dict[str, bytes]:
    """Return the keys of a backup of them. Change nothing.

    Raises:
        RecordsError: it is none; or a key of that name is here already, and another one.
        KeyFileError: a key that is here can't be read.
    """
    keys = {name: content.strip() for name, content in read_members(path, _LARGEST).items()}
    for name, key in keys.items():
        if not _NAME.fullmatch(name) or _HEAD.fullmatch(name) or not key:
            raise RecordsError(f"{path} is no backup of keys: {name!r} is none", hint="Name another file.")
        here = read_key(name)
        if here is not None and here != key:
            hint = "Look which of the two is needed, and move the other one away. docs/how-to/backup.md"
            raise RecordsError(f"{find_key_folder() / name} is another key than that in {path}", hint=hint)
    return keys


def restore_keys(keys: dict[str, bytes]) -> tuple[str, ...]:
    """Write the keys that are not here. Return their names.

    Raises:
        KeyFileError: one can't be written.
    """
    missing = tuple(name for name in keys if read_key(name) is None)
    for name in missing:
        create_key_file(find_key_folder() / name, keys[name])
    return missing
