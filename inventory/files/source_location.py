"""Places in files, and data with the place of each part."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in a file. ``key`` is a dotted path, a column or a variable; the format decides which."""

    file: Path
    line: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class LocatedData:
    """Plain data (maps, lists, strings, None) with the place of each part.

    Attributes:
        data: the data; scalars are text as written, and the schema decides their type.
        locations: places by path in the whole file.
        base_path: path of ``data`` in the whole file.
    """

    data: object
    locations: Mapping[KeyPath, SourceLocation]
    base_path: KeyPath = ()

    def locate(self, path: KeyPath = ()) -> SourceLocation:
        """Return the place of a path in ``data``. Return the nearest enclosing place if the path has none."""
        full = (*self.base_path, *path)
        for length in range(len(full), -1, -1):
            if (place := self.locations.get(full[:length])) is not None:
                rest = ".".join(str(part) for part in full[length:])
                return SourceLocation(place.file, place.line, ".".join(part for part in (place.key, rest) if part))
        raise KeyError(full)

    def get_child(self, key: str | int) -> "LocatedData":
        """Return the value of a key in a map or of an index in a list. The key must exist."""
        data = self.data[key]  # type: ignore[index]  # the caller has checked the type
        return LocatedData(data, self.locations, (*self.base_path, key))
