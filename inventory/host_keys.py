"""Pinned host keys in OpenSSH's known_hosts syntax (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Plain text only.

It reads names with ``*``, ``?`` and ``!``, ``[host]:port``, hashed names (``|1|salt|hash``), ``@cert-authority``,
``@revoked`` and comments. Where it differs from OpenSSH, it is stricter:

* An invalid line trusts no key. It stays in the file, is listed in ``invalid_lines`` and is otherwise ignored.
  An invalid ``@revoked`` line is an error, because without it fleetpatch would trust a revoked key.
* A revoked key is revoked for every host, whatever names are on the line.
* A key that is pinned for ``host`` does not count for ``[host]:2222``. (OpenSSH uses it as a fallback.)
* A host with a pinned key learns no other key. Otherwise a key of another type would bypass the pin.
"""

import base64
import binascii
import errno
import fcntl
import hashlib
import hmac
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType

from inventory.errors import HostKeyConflict, InventoryError
from inventory.files.file_trust import UntrustedFile, require_trusted
from inventory.files.paths import build_storage_error, ensure_private_directory, expand_home, find_storage_fault
from inventory.known_hosts_index import (
    CERT_AUTHORITY_MARKER,
    REVOKED_MARKER,
    KnownHostsEntry,
    KnownHostsIndex,
    PinnedKey,
)

__all__ = ["DEFAULT_SSH_PORT", "HostKeyStore", "InvalidLine", "PinnedKey", "render_known_hosts_name"]

DEFAULT_SSH_PORT = 22
MAX_KNOWN_HOSTS_BYTES = 10 * 1024 * 1024

_MARKERS = frozenset({CERT_AUTHORITY_MARKER, REVOKED_MARKER})
_HOST_PATTERN = re.compile(r"[A-Za-z0-9._:%-]+")
_KEY_TYPE_PATTERN = re.compile(r"[A-Za-z0-9@._-]+")


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that can't be parsed. It trusts no key."""

    number: int
    reason: str


_FileVersion = tuple[int, int, int, int]
_NEVER_READ: _FileVersion = (0, 0, 0, 0)
_MAX_APPEND_ATTEMPTS = 5


class HostKeyStore:
    """The keys of one known_hosts file. Threads may share an object, and processes may share the file.

    Attributes:
        path: the file; it need not exist yet.
        invalid_lines: lines that the last read could not parse.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.invalid_lines: tuple[InvalidLine, ...] = ()
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
        """Read the file again if it was changed since the last read.

        Raises:
            InventoryError: as for ``load``.
        """
        with self._lock:
            if self._file_version not in {_NEVER_READ, _read_file_version(self.path)}:
                self._file_version = _NEVER_READ
            if self._file_version == _NEVER_READ:
                text, version = _read_known_hosts(self.path)
                entries, self.invalid_lines, self._parsed_lines = _parse_known_hosts(
                    self.path, text, self._parsed_lines
                )
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
        if wrong := _describe_invalid_key(new.type, new.base64):
            raise InventoryError(
                f"the key that {host} shows can't be pinned: {wrong}", hint="Look at what answers there."
            )
        with _lock_known_hosts(self.path), self._lock:
            self.reload_if_changed()
            if self._is_already_pinned(host, port, new):
                return
            name = render_known_hosts_name(host, port)
            written = _hash_name(name) if hashed else name
            self._file_version = _append_line(self.path, f"{written} {type} {base64}\n", self._file_version)
            self._index.add_host(name, new)

    @staticmethod
    def compute_fingerprint(base64: str) -> str:
        """Return the fingerprint of a key as ssh-keygen -l shows it: "SHA256:" and base64 without padding."""
        digest = hashlib.sha256(_decode_key(base64)).digest()
        return f"SHA256:{binascii.b2a_base64(digest, newline=False).decode().rstrip('=')}"

    def _is_already_pinned(self, host: str, port: int, new: PinnedKey) -> bool:
        if self._index.is_revoked(new):
            raise HostKeyConflict(
                f"{host} shows the key {self.compute_fingerprint(new.base64)}, which is revoked",
                file=self.path,
                hint="Give the machine a new host key. A revoked key is never trusted again.",
            )
        pinned = self.find_keys(host, port)
        if pinned and new not in pinned:
            pinned_text = ", ".join(f"{key.type} {self.compute_fingerprint(key.base64)}" for key in pinned)
            raise HostKeyConflict(
                f"{host} shows the key {new.type} {self.compute_fingerprint(new.base64)}, but pinned is {pinned_text}",
                file=self.path,
                hint="Find out why the key changed. If it is right, remove the machine's line from the file "
                f"(ssh-keygen -R '{render_known_hosts_name(host, port)}' -f {self.path}).",
            )
        return bool(pinned)


def render_known_hosts_name(host: str, port: int = DEFAULT_SSH_PORT) -> str:
    """Return the name of an address in known_hosts: ``host``, or ``[host]:port`` for a port other than 22."""
    host = host.lower()
    return host if port == DEFAULT_SSH_PORT else f"[{host}]:{port}"


def _hash_name(name: str) -> str:
    salt = os.urandom(hashlib.sha1(usedforsecurity=False).digest_size)
    texts = (
        binascii.b2a_base64(part, newline=False).decode() for part in (salt, hmac.digest(salt, name.encode(), "sha1"))
    )
    return f"|1|{'|'.join(texts)}"


def _parse_known_hosts(
    path: Path, text: str, known: Mapping[str, KnownHostsEntry | str] = MappingProxyType({})
) -> tuple[tuple[KnownHostsEntry, ...], tuple[InvalidLine, ...], dict[str, KnownHostsEntry | str]]:
    """Parse the lines of a file. ``known`` has the lines parsed before; the last item returned has these lines."""
    entries: list[KnownHostsEntry] = []
    problems: list[InvalidLine] = []
    lines: dict[str, KnownHostsEntry | str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        entry = lines[line] = known.get(line) or _parse_entry(fields)
        if isinstance(entry, KnownHostsEntry):
            entries.append(entry)
        elif fields[0].lower().startswith("@revoked"):
            raise InventoryError(
                f"this @revoked line can't be read ({entry}), so the key it revokes would stay trusted",
                file=path,
                line=number,
                hint="Write it as: @revoked * KEY-TYPE BASE64",
            )
        else:
            problems.append(InvalidLine(number, entry))
    return tuple(entries), tuple(problems), lines


def _parse_entry(fields: list[str]) -> KnownHostsEntry | str:
    """Return the entry of a line, or the reason why the line is invalid."""
    marker = ""
    if fields[0].startswith("@"):
        marker, fields = fields[0], fields[1:]
        if marker not in _MARKERS:
            return f"unknown marker {marker!r}"
    if len(fields) < 3:
        return "a line has names, a key type and a key in base64"
    names, key_type, blob = fields[:3]
    wrong = _describe_invalid_names(names) or _describe_invalid_key(key_type, blob)
    return wrong or KnownHostsEntry(marker, names, PinnedKey(key_type, blob))


def _describe_invalid_names(names: str) -> str:
    if not names.startswith("|"):
        return "" if all(name.removeprefix("!") for name in names.split(",")) else "an empty host name"
    parts = names.split("|")
    try:
        ok = len(parts) == 4 and parts[1] == "1" and len(base64.b64decode(parts[3], validate=True)) == 20
        base64.b64decode(parts[2] if ok else "", validate=True)
    except (binascii.Error, ValueError):
        ok = False
    return "" if ok else "a hashed name is |1|SALT|HASH, in base64"


def _describe_invalid_key(key_type: str, text: str) -> str:
    if not _KEY_TYPE_PATTERN.fullmatch(key_type):
        return "this is no key type"
    try:
        blob = _decode_key(text)
    except InventoryError:
        return "the key is no valid base64"
    size = int.from_bytes(blob[:4], "big")
    named = blob[4 : 4 + size]
    if len(blob) <= 4 + size or named != key_type.encode("ascii", "replace"):
        return f"the key is not of type {key_type}"
    return ""


def _decode_key(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InventoryError(
            "a host key is no valid base64", hint="Copy the key whole, from ssh-keyscan or the machine's .pub file."
        ) from error


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
        directory = path.resolve().parent
        handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
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
