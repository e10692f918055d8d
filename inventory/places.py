"""Where something stands in a file, and a list of what is wrong there: so that all faults are told at once."""

import difflib
import os
import select
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import FleetpatchError, InvalidInventory, InventoryError

MAX_FILE_BYTES = 10 * 1024 * 1024
"""No inventory is longer than this; what is, was not meant to be one."""

MAX_PROBLEMS = 200
"""A file with more faults than this is of another kind; nobody reads on."""

PIPE_SECONDS = 10.0
"""How long a pipe may be silent: one that nobody writes to would be waited for without end."""

_LONGEST_PATH = 4096
PIPE_TOTAL_SECONDS = 60.0
"""How long writing into a pipe may take."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file. ``key`` is a dotted path, a column or a variable, as the format has it."""

    file: Path
    line: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Located:
    """Plain data (maps, lists, strings, None) together with where each part of it stands.

    Attributes:
        data: scalars are the text as written; the schema decides what they are.
        places: by path inside the whole file.
        base: path of ``data`` inside the whole file.
    """

    data: object
    places: Mapping[KeyPath, Place]
    base: KeyPath = ()

    def at(self, path: KeyPath = ()) -> Place:
        """Return where a path inside ``data`` stands, or the nearest thing around it when it stands nowhere itself."""
        full = (*self.base, *path)
        for length in range(len(full), -1, -1):
            if (place := self.places.get(full[:length])) is not None:
                rest = ".".join(str(part) for part in full[length:])
                return Place(place.file, place.line, ".".join(part for part in (place.key, rest) if part))
        raise KeyError(full)

    def part(self, step: str | int) -> "Located":
        """Return what a map holds under a key, or a list at an index; it must be there."""
        data = self.data[step]  # type: ignore[index]  # who asks has looked
        return Located(data, self.places, (*self.base, step))


class Problems:
    """Collects what is wrong, so that one run of the loader tells it all."""

    def __init__(self) -> None:
        self._found: list[InventoryError] = []

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """Note a fault, once."""
        if len(self._found) < MAX_PROBLEMS:
            key = _short(place.key, 200) or None
            error = InventoryError(
                _short(message, 1000), file=place.file, line=place.line, key=key, hint=_short(hint, 1500)
            )
            if all(error.message != known.message for known in self._found):
                self._found.append(error)

    def take(self, others: "Problems") -> None:
        """Add what somebody else collected."""
        self._found += others._found[: MAX_PROBLEMS - len(self._found)]  # noqa: SLF001  # its own kind

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raise everything that was found.

        Raises:
            InvalidInventory: there was something.
        """
        if self._found:
            raise InvalidInventory(self._found)


def _short(text: str, most: int) -> str:
    """Return a text in a length that people read: keys and values may be anything."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return "Did you mean 'x'? " for the option nearest to a word, or "" when none is near."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}? " if near else ""


def read_text(path: Path, problems: Problems, *, regular: bool = False) -> str | None:
    """Read a file of an inventory.

    Args:
        path: the file; a pipe that somebody writes to will do.
        problems: takes why it can't be read.
        regular: whether it must be a regular file, as nobody named it.

    Returns:
        Its text, or None when it can't be read.
    """
    try:
        raw = _read_bytes(path, MAX_FILE_BYTES + 1, regular)
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the path
        hint = "Correct the path, and make it readable for the user who runs fleetpatch."
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        problems.add(Place(path), f"this file can't be read: {why}", hint)
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.add(Place(path), "this file is larger than 10 MiB", "Split it, and give the directory of the parts.")
        return None
    try:
        return raw.decode("utf-8-sig")  # spreadsheets put a byte order mark before CSV
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problems.add(Place(path, line), "this file is no UTF-8 text", "Save it as UTF-8.")
        return None


def _read_bytes(path: Path, limit: int, regular: bool) -> bytes:
    """Read so many bytes of a file or a pipe (``<(generate)``); a silent or slow pipe is given up.

    Raises:
        OSError: it can't be read, or is a device; TimeoutError when nothing comes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else opening a pipe waits for its writer
    with os.fdopen(handle, "rb", buffering=0) as stream:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(None, "it is a directory")
        if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) or (regular and not stat.S_ISREG(mode)):
            raise OSError(None, "it is no regular file")
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        raw = bytearray()
        until = time.monotonic() + PIPE_TOTAL_SECONDS
        while len(raw) < limit:
            if time.monotonic() > until:
                raise TimeoutError(None, f"its writer was not done after {PIPE_TOTAL_SECONDS:g} s")
            if not waiting.poll(PIPE_SECONDS * 1000):
                raise TimeoutError(None, f"nothing was written into it for {PIPE_SECONDS:g} s")
            part = stream.read(limit - len(raw))
            if not part:
                break
            raw += part
    return bytes(raw)


def names_in(folder: Path, problems: Problems, *, most: int, if_unreadable: str, if_more: str) -> list[str]:
    """Return the names in a directory, sorted; none when it can't be read or holds too many.

    Args:
        folder: the directory.
        problems: takes what is wrong with it.
        most: how many it may hold.
        if_unreadable: the remedy when it can't be read.
        if_more: the remedy when it holds more.
    """
    try:
        names = [item.name for item in folder.iterdir()]
    except OSError as error:
        problems.add(Place(folder), f"this directory can't be read: {error.strerror}", if_unreadable)
        return []
    if len(names) > most:
        problems.add(Place(folder), f"more than {most:,} entries are in this directory", if_more)
        return []
    return sorted(names)


def with_home(path: Path, error: type[FleetpatchError] = InventoryError) -> Path:
    """Return a path with ``~`` filled in.

    Args:
        path: as a person wrote it.
        error: what to raise.

    Raises:
        FleetpatchError: nobody knows whose home that is, or no file can have such a path.
    """
    try:
        if "\0" in str(path) or len(os.fsencode(path)) >= _LONGEST_PATH:
            raise ValueError
    except ValueError as fault:
        hint = (
            f"Correct the path; it has at most {_LONGEST_PATH - 1:,} bytes, of characters that a file's name may have."
        )
        raise error(f"{str(path)[:60]!r} is no path of a file", hint=hint) from fault
    try:
        return path.expanduser()
    except RuntimeError as fault:
        raise error(
            f"{path}: it is not known where that home is", hint="Correct the user's name, or write the path out."
        ) from fault


def own_folder(kind: Callable[[str], Path], error: type[FleetpatchError], remedy: str) -> Path:
    """Return the user's folder of a kind.

    Args:
        kind: one of platformdirs' functions.
        error: what to raise.
        remedy: for a user who has no home.

    Raises:
        FleetpatchError: the user has none: a made-up one of a container, without HOME.
    """
    try:
        return kind("fleetpatch")
    except RuntimeError as fault:
        raise error("this user has no home directory", hint=f"Set HOME, or {remedy}.") from fault
