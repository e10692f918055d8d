"""The files of backups: a tar archive with a manifest and one copy of the records; or one with keys.

It is written beside its place, read back, and only then gets its name. What is read is checked before it is used. Keys
and passwords that fleetpatch made have a file of their own: they are never in that of the records.
"""

import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pydantic import ValidationError

from inventory.editing.file_replacement import sync_folder
from inventory.files.own_keys import create_key_file, find_key_folder, read_key
from tasks.domain.errors import RecordsError
from tasks.records.backup.manifest import BackupManifest

_MANIFEST: Final = "manifest.json"
_CONTENT: Final = "records"
_LARGEST_MANIFEST: Final = 4 * 2**20
_CHUNK: Final = 2**20


@contextmanager
def make_private_folder(beside: Path) -> Iterator[Path]:
    """Give a folder of mode 0700 in the folder of a file, and remove it after the block.

    Raises:
        RecordsError: it can't be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=f".{beside.name}.", dir=beside.parent)
    except OSError as error:
        fault = f"can't write to {beside.parent}: {error.strerror}"
        raise RecordsError(fault, hint="Name a file in a folder that this user can write.") from error
    with made as name:
        yield Path(name)


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_archive(partial: Path, members: Mapping[str, bytes | Path]) -> None:
    """Write a private tar archive, and wait for the disk.

    Args:
        partial: a file that does not exist yet.
        members: the content of each member, or the file that has it.

    Raises:
        OSError: it can't be written.
    """
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in members.items():
                header = tarfile.TarInfo(name)
                header.mode = 0o600
                if isinstance(content, Path):
                    header.size = content.stat().st_size
                    with content.open("rb") as file:
                        archive.addfile(header, file)
                else:
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
        stream.flush()
        os.fsync(stream.fileno())


def write_backup(partial: Path, manifest: BackupManifest, content: Path) -> None:
    """Write the archive of a backup, and read it back from the file.

    Raises:
        OSError: it can't be written.
        RecordsError: what is read is not what was written.
    """
    write_archive(partial, {_MANIFEST: manifest.model_dump_json(indent=1).encode(), _CONTENT: content})
    read_backup(partial)


def publish_file(partial: Path, path: Path, *, overwrite: bool) -> None:
    """Give a complete file its name, at once. One that has the name stays, unless it is to be overwritten.

    Raises:
        RecordsError: the name is taken.
        OSError: it can't be written.
    """
    if overwrite:
        partial.replace(path)
    else:
        try:
            os.link(partial, path)
            partial.unlink()
        except FileExistsError:
            raise build_taken_error(path) from None
        except OSError as error:  # a file system without hard links
            if path.exists() or path.is_symlink():
                raise build_taken_error(path) from error
            partial.replace(path)
    sync_folder(path.parent)


def build_taken_error(path: Path) -> RecordsError:
    """Return the error for a file that is there already."""
    return RecordsError(f"{path} is there already", hint="Name another file, or replace it with --overwrite.")


def read_backup(path: Path, content: Path | None = None) -> BackupManifest:
    """Return the manifest of a backup, after its digest was checked.

    ``content``: gets the copy of the records, as a private file that does not exist yet; None: it is only checked.

    Raises:
        RecordsError: it can't be read, it is no backup of records, or it is damaged.
    """
    hint = "Take another backup: `fleetpatch records backup FILE` writes one."
    try:
        with tarfile.open(path, mode="r:") as archive:
            header, stream = _find_member(archive, _MANIFEST)
            if header.size > _LARGEST_MANIFEST:
                raise RecordsError(f"{path} is no backup of records: its manifest is too large", hint=hint)
            manifest = BackupManifest.model_validate_json(stream.read())
            header, stream = _find_member(archive, _CONTENT)
            size, digest = _copy(stream, content)
    except FileNotFoundError:
        raise RecordsError(f"there is no file {path}", hint="Name the file of a backup.") from None
    except (tarfile.TarError, KeyError, ValidationError, EOFError) as error:
        cause = str(error).strip().splitlines()
        fault = f"{path} is no backup of records, or it is damaged: {cause[0] if cause else type(error).__name__}"
        raise RecordsError(fault, hint=hint) from error
    except OSError as error:
        raise RecordsError(f"can't read {path}: {error.strerror or error}", hint=hint) from error
    if (size, digest) != (manifest.content_bytes, manifest.content_sha256):
        raise RecordsError(f"{path} is damaged: its content does not fit its digest", hint=hint)
    return manifest


def read_members(path: Path, largest: int) -> dict[str, bytes]:
    """Return the small regular members of an archive by name.

    Raises:
        RecordsError: it can't be read, or it is no such archive.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            members = {}
            for header in archive:
                stream = archive.extractfile(header) if header.isreg() and header.size <= largest else None
                if stream is None:
                    raise RecordsError(
                        f"{path} is no backup of keys: {header.name!r} is none", hint="Name another file."
                    )
                members[header.name] = stream.read()
            return members
    except (tarfile.TarError, OSError) as error:
        raise RecordsError(f"can't read {path}: {error}", hint="Name the file that --keys has written.") from error


def _find_member(archive: tarfile.TarFile, name: str) -> tuple[tarfile.TarInfo, IO[bytes]]:
    header = archive.getmember(name)
    stream = archive.extractfile(header) if header.isreg() else None
    if stream is None:
        raise KeyError(name)
    return header, stream


def _copy(stream: IO[bytes], content: Path | None) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(content, flags, 0o600) if content is not None else os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(target, "wb") as file:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return size, digest.hexdigest()


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
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    names = sorted(path.name for path in files if _NAME.fullmatch(path.name) and not _HEAD.fullmatch(path.name))
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
    """Write the keys that are not here. Return their names. Raise KeyFileError if one can't be written."""
    missing = tuple(name for name in keys if read_key(name) is None)
    for name in missing:
        create_key_file(find_key_folder() / name, keys[name])
    return missing
