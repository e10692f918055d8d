"""The file with the pinned host keys: read again when it changes, and appended to under a lock."""

import binascii
import errno
import fcntl
import hashlib
import hmac
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from inventory.errors import HostKeyConflict, InventoryError
from inventory.files.file_trust import UntrustedFile, require_trusted
from inventory.files.paths import build_storage_error, ensure_private_directory, expand_home, find_storage_fault
from inventory.known_hosts import (
    CERT_AUTHORITY_MARKER,
    DEFAULT_SSH_PORT,
    KnownHostsEntry,
    KnownHostsIndex,
    PinnedKey,
    describe_invalid_key,
    parse_known_hosts,
    render_known_hosts_name,
)
from inventory.machine import HostKeySettings

MAX_KNOWN_HOSTS_BYTES = 10 * 1024 * 1024

_HOST_PATTERN = re.compile(r"[A-Za-z0-9._:%-]+")
_FileVersion = tuple[int, int, int, int]
_NEVER_READ: _FileVersion = (0, 0, 0, 0)
_MAX_APPEND_ATTEMPTS = 5


class HostKeyStore:
    """The keys of one known_hosts file. Threads may share an object, and processes may share the file.

    Attributes:
        path: the file; it need not exist yet.
        invalid_lines: why the last read could not parse lines, by their numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.invalid_lines: dict[int, str] = {}
        self._index = KnownHostsIndex()
        self._file_version = _NEVER_READ
        self._parsed_lines: dict[str, KnownHostsEntry | str] = {}
        self._lock = threading.RLock()

    @classmethod
    def load(cls, path: Path) -> "HostKeyStore":
        """Load a file. A file that does not exist is an empty store.

        Raises:
            InventoryError: the file can't be read, everyone may write to it, or a @revoked line is invalid.
        """
        store = cls(expand_home(path))
        store.reload_if_changed()
        return store

    def reload_if_changed(self) -> None:
        """Read the file again if it was changed since the last read. Raise InventoryError as ``load`` does."""
        with self._lock:
            if self._file_version not in {_NEVER_READ, _read_file_version(self.path)}:
                self._file_version = _NEVER_READ
            if self._file_version == _NEVER_READ:
                text, version = _read_known_hosts(self.path)
                entries, self.invalid_lines, self._parsed_lines = parse_known_hosts(self.path, text, self._parsed_lines)
                self._index, self._file_version = KnownHostsIndex(entries), version

    def find_keys(self, host: str, port: int = DEFAULT_SSH_PORT) -> tuple[PinnedKey, ...]:
        """Return the trusted keys of the machine at this address, without revoked keys."""
        return self._index.find_keys("", render_known_hosts_name(host, port))

    def find_authorities(self, host: str, port: int = DEFAULT_SSH_PORT) -> tuple[PinnedKey, ...]:
        """Return the keys that may sign the host certificate of this machine, without revoked keys."""
        return self._index.find_keys(CERT_AUTHORITY_MARKER, render_known_hosts_name(host, port))

    def is_revoked(self, type: str, base64: str) -> bool:
        """Return whether a key is revoked, for any host. For a certificate, check the key of its authority as well."""
        return self._index.is_revoked(PinnedKey(type, base64))

    def pin_first_key(self, host: str, port: int, type: str, base64: str, *, hashed: bool = False) -> None:
        """Pin the first key of a machine. A key that is already pinned stays as it is.

        The method takes a lock, reads what other processes have written, and appends the key. With ``hashed``, nobody
        can read the machine's name in the file.

        Raises:
            HostKeyConflict: another key is pinned for this machine, or this key is revoked. The file is unchanged.
            InventoryError: host or key is invalid, or the file can't be written.
        """
        new = PinnedKey(type, base64)
        # A name with blanks, commas or wildcards would match more than one machine.
        if not _HOST_PATTERN.fullmatch(host) or not 1 <= port <= 65535:
            raise InventoryError(f"{host!r} port {port} is no address to learn a key for", hint="Correct the address.")
        if wrong := describe_invalid_key(new.type, new.base64):
            raise InventoryError(
                f"the key that {host} shows can't be pinned: {wrong}", hint="Look at what answers there."
            )
        with _lock_known_hosts(self.path), self._lock:
            self.reload_if_changed()
            if self._is_already_pinned(host, port, new):
                return
            name = render_known_hosts_name(host, port)
            line_name = name
            if hashed:
                salt = os.urandom(hashlib.sha1(usedforsecurity=False).digest_size)
                digests = (salt, hmac.digest(salt, name.encode(), "sha1"))
                line_name = "|1|" + "|".join(binascii.b2a_base64(part, newline=False).decode() for part in digests)
            self._file_version = _append_line(self.path, f"{line_name} {type} {base64}\n", self._file_version)
            self._index.add_host(name, new)

    def _is_already_pinned(self, host: str, port: int, new: PinnedKey) -> bool:
        if self._index.is_revoked(new):
            raise HostKeyConflict(
                f"{host} shows the key {new.fingerprint}, which is revoked",
                file=self.path,
                hint="Give the machine a new host key. A revoked key is never trusted again.",
            )
        pinned = self.find_keys(host, port)
        if pinned and new not in pinned:
            pinned_text = ", ".join(f"{key.type} {key.fingerprint}" for key in pinned)
            raise HostKeyConflict(
                f"{host} shows the key {new.type} {new.fingerprint}, but pinned is {pinned_text}",
                file=self.path,
                hint="Find out why the key changed. If it is right, remove the machine's line from the file "
                f"(ssh-keygen -R '{render_known_hosts_name(host, port)}' -f {self.path}).",
            )
        return bool(pinned)


def _to_file_version(status: os.stat_result) -> _FileVersion:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _read_file_version(path: Path) -> _FileVersion:
    try:
        return _to_file_version(path.stat())
    except OSError:
        return _NEVER_READ


def _read_known_hosts(path: Path) -> tuple[str, _FileVersion]:
    try:
        # O_NONBLOCK: a named pipe at this path must not block the run.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(None, "it is a directory")
            require_trusted(path, stream.fileno())
            raw = stream.read(MAX_KNOWN_HOSTS_BYTES + 1)
    except FileNotFoundError:
        return "", _NEVER_READ
    except UntrustedFile as error:
        raise _build_distrust_error(path, error) from error
    except OSError as error:
        raise InventoryError(
            f"known hosts can't be read: {error.strerror}",
            file=path,
            hint="It must be a file that the user who runs fleetpatch may read.",
        ) from error
    if len(raw) > MAX_KNOWN_HOSTS_BYTES:
        raise InventoryError("this file is too large for known hosts", file=path, hint="The limit is 10 MiB.")
    # Bytes that are not UTF-8 stay as they are.
    return raw.decode("utf-8", "surrogateescape"), _to_file_version(status)


@contextmanager
def _lock_known_hosts(path: Path) -> Iterator[None]:
    """Hold a lock file beside the file. The file itself can't be the lock, because programs replace it."""
    try:
        ensure_private_directory(path.parent)
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _build_write_error(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _append_line(path: Path, line: str, version_read: _FileVersion) -> _FileVersion:
    """Append a line, sync it to disk, and return the new version of the file.

    OpenSSH takes no lock, so another process may write at the same time. Then the result is _NEVER_READ, and the next
    call reads the file again.
    """
    for _ in range(_MAX_APPEND_ATTEMPTS):
        try:
            # O_NONBLOCK: as in the read above. A symbolic link is followed and stays a link.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600), "rb+", buffering=0) as stream:
                require_trusted(path, stream.fileno())
                before, after, added = _write_line(stream, line.encode())
        except UntrustedFile as error:
            raise _build_distrust_error(path, error) from error
        except OSError as error:
            raise _build_write_error(path, error) from error
        if _read_file_version(path)[-1] == after.st_ino:  # no other process has replaced the file
            break
    if before.st_size == 0:
        handle = os.open(path.resolve().parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    is_known = version_read in {_to_file_version(before), _NEVER_READ if before.st_size == 0 else None}
    return _to_file_version(after) if is_known and after.st_size == before.st_size + added else _NEVER_READ


def _write_line(stream: FileIO, line: bytes) -> tuple[os.stat_result, os.stat_result, int]:
    handle = stream.fileno()
    before = os.fstat(handle)
    if before.st_mode & 0o077 and before.st_uid == os.geteuid():
        os.fchmod(handle, 0o600)
    gap = b"\n" if before.st_size and os.pread(handle, 1, before.st_size - 1) != b"\n" else b""
    added = gap + line
    written = stream.write(added) or 0
    if written < len(added):  # the disk is full: remove the partial line
        if os.fstat(handle).st_size == before.st_size + written:
            os.ftruncate(handle, before.st_size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)
    return before, os.fstat(handle), len(added)


def _build_distrust_error(path: Path, error: UntrustedFile) -> InventoryError:
    return InventoryError(f"these known hosts are not trusted: {error.message}", file=path, hint=error.hint)


def _build_write_error(path: Path, error: OSError) -> InventoryError:
    if fault := find_storage_fault(path, number=error.errno or errno.EIO):
        return build_storage_error(InventoryError, f"known hosts {path} can't be written", fault)
    return InventoryError(
        f"known hosts can't be written: {error.strerror}",
        file=path,
        hint="Make the file and its directory writable for the user who runs fleetpatch, or pin the key by hand.",
    )


_DEFAULT_KNOWN_HOSTS = Path("~/.ssh/known_hosts")
_stores: dict[Path, HostKeyStore] = {}
_stores_lock = threading.Lock()


def find_known_hosts(host_keys: HostKeySettings) -> Path:
    """Return the known_hosts file of an inventory.

    Raises:
        InventoryError: it is in the home directory of a user who does not exist.
    """
    return expand_home(host_keys.known_hosts or _DEFAULT_KNOWN_HOSTS)


def load_host_key_store(host_keys: HostKeySettings) -> HostKeyStore:
    """Return the store of an inventory's known_hosts. The file is read again only if it has changed.

    Raises:
        InventoryError: the file can't be read.
    """
    path = find_known_hosts(host_keys)
    with _stores_lock:
        store = _stores.setdefault(path, HostKeyStore(path))
    store.reload_if_changed()
    return store
