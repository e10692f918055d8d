"""Places in files, data with the place of each part, and the problems there."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError

KeyPath = tuple[str | int, ...]

MAX_PROBLEMS = 200
"""Maximum number of problems. A file with more problems is probably not an inventory."""


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in a file. ``key`` is a dotted path, a column or a variable; the format decides which."""

    file: Path
    line: int | None = None
    key: str = ""

    @property
    def short(self) -> str:
        """The file's name and the line, for messages about another place."""
        return f"{self.file.name}:{self.line}" if self.line else self.file.name


@dataclass(frozen=True, slots=True)
class LocatedData:
    """Plain data (maps, lists, strings, None) with the place of each part."""

    data: object  # the data; scalars are text as written, and the schema decides their type
    locations: Mapping[KeyPath, SourceLocation]  # places by path in the whole file
    base_path: KeyPath = ()  # path of ``data`` in the whole file

    def locate(self, path: KeyPath = ()) -> SourceLocation:
        """Return the place of a path in ``data``. Return the nearest enclosing place if the path has none."""
        full = (*self.base_path, *path)
        for length in range(len(full), -1, -1):
            if (source_location := self.locations.get(full[:length])) is not None:
                key = ".".join(str(part) for part in full[length:])
                return SourceLocation(
                    source_location.file,
                    source_location.line,
                    ".".join(part for part in (source_location.key, key) if part),
                )
        raise KeyError(full)

    def get_child(self, key: str | int) -> "LocatedData":
        """Return the value of a key in a map or of an index in a list. The key must exist."""
        data = self.data[key]  # type: ignore[index]  # the caller has checked the type
        return LocatedData(data, self.locations, (*self.base_path, key))


class ProblemCollector:
    """Collects problems, so that the loader reports all of them at once."""

    def __init__(self) -> None:
        self._problems: list[InventoryError] = []

    def add(self, location: SourceLocation | Path, message: str, hint: str = "") -> None:
        """Add a problem, unless it is there already. A path is the place of a whole file."""
        if len(self._problems) < MAX_PROBLEMS:
            source = SourceLocation(location) if isinstance(location, Path) else location
            key = _truncate(source.key, 200) or None
            error = InventoryError(
                _truncate(message, 1000), file=source.file, line=source.line, key=key, hint=_truncate(hint, 1500)
            )
            if all(error.message != problem.message for problem in self._problems):
                self._problems.append(error)

    def extend(self, others: "ProblemCollector") -> None:
        """Add the problems of another collector."""
        self._problems += others._problems[: MAX_PROBLEMS - len(self._problems)]  # noqa: SLF001  # the same class

    def __bool__(self) -> bool:
        return bool(self._problems)

    def raise_if_any(self, error_type: type[InvalidFiles] = InvalidInventory) -> None:
        """Raise an error of this type with all problems, if there is one.

        Raises:
            InvalidFiles: there is at least one problem.
        """
        if self._problems:
            raise error_type(self._problems)


def _truncate(text: str, max_length: int) -> str:
    """Return a text in a readable length. Keys and values of a file can be very long."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return "Did you mean 'x'? " with the closest option, or "" if no option is close."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}? " if near else ""
