"""Looking for secrets where none may be: canaries, what a run leaves behind, arguments of processes, an agent."""

import base64
import gzip
import lzma
import os
import re
import secrets
import socket
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, quote_plus

import pandas

SQLITE: Final = b"SQLite format 3\0"
SAMPLE_SECONDS: Final = 0.02
UNBORN_ROUNDS: Final = 5
YOUNG_ROUNDS: Final = 50
OLD_ROUNDS: Final = 25
"""The kernel counts a process before it can be read. A process gets its last arguments soon: it is looked at in each of
its first rounds, and then in one of so many."""
MARK: Final = secrets.token_hex(8)
"""All canaries of this process begin with it, so that a search looks for one thing first, and for the others seldom."""


def new_canary(kind: str) -> str:
    """A secret that is found nowhere by chance, and looks different when it is encoded for a URL."""
    return f"{MARK}-{kind}-{secrets.token_hex(6)}/+%=~{secrets.token_hex(4)}"


def disguises(canary: str) -> dict[str, bytes]:
    """The canary as it may turn up: name of the disguise → bytes to look for."""
    plain = canary.encode()
    found = {
        "clear": plain,
        "wide": canary.encode("utf-16-le"),
        "hex": plain.hex().encode(),
        "url": quote(canary, safe="").encode(),
        "url in small letters": re.sub("%..", lambda escape: escape[0].lower(), quote(canary, safe="")).encode(),
        "url path": quote(canary).encode(),
        "form": quote_plus(canary).encode(),
    }
    for shift in range(3):  # what stands before it decides how its bits fall into letters
        whole = base64.b64encode(b"\0" * shift + plain)
        sure = whole[(0, 2, 3)[shift] : len(whole) - (0, 3, 2)[(shift + len(plain)) % 3]]
        found[f"base64 shifted by {shift}"] = sure
        found[f"base64url shifted by {shift}"] = sure.translate(bytes.maketrans(b"+/", b"-_"))
    return found


class Search:
    """Looks for canaries in bytes and files; each is told by its name, never by its text.

    Args:
        canaries: name → secret.
        marks: what is looked for first: one of these is in each canary.
    """

    def __init__(self, canaries: Mapping[str, str], marks: Iterable[str] = (MARK,)) -> None:
        self._needles = [
            (f"{name} ({disguise})", needle)
            for name, canary in canaries.items()
            for disguise, needle in disguises(canary).items()
        ]
        self._marks = {needle for mark in marks for needle in disguises(mark).values()}
        self.bytes_seen = 0
        self.files_seen = 0

    def text(self, place: str, data: bytes | str) -> list[str]:
        """Return "place: canary" for each that is in there."""
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        self.bytes_seen += len(raw)
        if not any(mark in raw for mark in self._marks):
            return []
        return [f"{place}: {name}" for name, needle in self._needles if needle in raw]

    def tree(self, top: Path) -> list[str]:
        """Look at a file, or at all files below a folder: their names, bytes, and what is packed in them."""
        return [hit for path in _files(top) for hit in self.file(path)]

    def file(self, path: Path) -> list[str]:
        """Look at one file."""
        self.files_seen += 1
        try:
            raw = path.read_bytes()
        except FileNotFoundError:  # it was a running machine's
            return []
        hits = self.text(str(path), os.fsencode(path.name)) + self.text(str(path), raw)
        return hits + [hit for part in _unpacked(path, raw) for hit in self.text(f"{path} unpacked", part)]


def _files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _unpacked(path: Path, raw: bytes) -> Iterator[bytes]:
    if raw.startswith(b"\x1f\x8b"):
        yield gzip.decompress(raw)
    elif raw.startswith(b"\xfd7zXZ\0"):
        yield lzma.decompress(raw)
    elif raw.startswith(b"PAR1"):
        yield pandas.read_parquet(path).to_csv().encode()
    elif raw.startswith(SQLITE):
        yield from _cells(path)


def _cells(path: Path) -> Iterator[bytes]:
    """Each value of each table, whole: on the disk a long one is spread over pages."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        names = [row[0].decode() for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in database.execute(f'SELECT * FROM "{name}"'):
                yield b"\n".join(map(_cell, row))


def _cell(cell: object) -> bytes:
    """A value as it was before the records packed it."""
    raw = cell if isinstance(cell, bytes) else str(cell).encode()
    if raw.startswith(b"\x78"):
        with suppress(zlib.error):
            return zlib.decompress(raw)
    return raw


class ProcessWatch:
    """Reads the arguments of all processes of this machine, lab hosts' included, for as long as it is entered.

    A process that is older than YOUNG_ROUNDS rounds (1 s) is read in one of OLD_ROUNDS rounds only: arguments that such
    a process gets by exec and has for less than half a second may be missed.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def count(self, *words: bytes) -> int:
        """How many different command lines hold these words, in this order."""
        return sum(b"\0".join(words) in line for line in self.seen)

    def _watch(self) -> None:
        young: dict[int, int] = {}  # pid -> rounds in which it was there
        newest = 0
        while not self._stop.is_set():
            last = _last_pid()
            if last < newest or self.rounds % OLD_ROUNDS == 0:
                for name in os.listdir("/proc"):  # noqa: PTH208 - twice a second
                    if name.isdigit():
                        self._look(int(name))
            begun = range(newest + 1, last + 1) if newest else ()
            young |= dict.fromkeys(begun, 0)
            seen = {pid: n + 1 for pid, n in young.items() if self._look(pid) or n < UNBORN_ROUNDS}
            young = {pid: n for pid, n in seen.items() if n < YOUNG_ROUNDS}
            newest = last
            self.rounds += 1
            self._stop.wait(SAMPLE_SECONDS)

    def _look(self, pid: int) -> bool:
        """Read a process' arguments; whether it is still there."""
        try:
            handle = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY)
        except OSError:
            return False
        try:
            line = os.read(handle, 1 << 20)
        except OSError:  # it is gone
            return False
        finally:
            os.close(handle)
        if line:
            self.seen.add(line)
        return True


def _last_pid() -> int:
    """The id that was given to a process or thread last: a list of all is longer to read."""
    with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - fifty times a second
        return int(file.read().split()[-1])


class FakeAgent:
    """The socket of an SSH agent that answers nobody and counts who comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.visits = 0
        self._leaving = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="fake agent", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as last:
            last.connect(str(self.path))  # wakes the thread: closing a socket does not
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            visitor, _ = self._socket.accept()
            visitor.close()
            if self._leaving:
                return
            self.visits += 1


def open_to_others(top: Path, leave_out: Iterable[Path] = ()) -> list[str]:
    """Files and folders below (and at) a path that others than their owner may do anything with: "mode path"."""
    found = []
    skipped = {path.resolve() for path in leave_out}
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if Path(folder, name).resolve() not in skipped]
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            mode = path.lstat().st_mode
            if mode & 0o077 and not path.is_symlink() and not path.is_socket():
                found.append(f"{mode & 0o7777:04o} {path}")
    return found
