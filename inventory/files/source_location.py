"""Places in files, and data that knows the place of each of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in a file. ``key`` is a dotted path, a column or a variable, as the format has it."""

    file: Path
    line: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class LocatedData:
    """Plain data (maps, lists, strings, None) together with where each part of it stands.

    Attributes:
        data: scalars are the text as written; the schema decides what they are.
        locations: by path inside the whole file.
        base_path: path of ``data`` inside the whole file.
    """

    data: object
    locations: Mapping[KeyPath, SourceLocation]
    base_path: KeyPath = ()

    def locate(self, path: KeyPath = ()) -> SourceLocation:
        """Return where a path inside ``data`` stands, or the nearest thing around it when it stands nowhere itself."""
        full = (*self.base_path, *path)
        for length in range(len(full), -1, -1):
            if (place := self.locations.get(full[:length])) is not None:
                rest = ".".join(str(part) for part in full[length:])
                return SourceLocation(place.file, place.line, ".".join(part for part in (place.key, rest) if part))
        raise KeyError(full)

    def get_child(self, key: str | int) -> "LocatedData":
        """Return what a map holds under a key, or a list at an index; it must be there."""
        data = self.data[key]  # type: ignore[index]  # who asks has looked
        return LocatedData(data, self.locations, (*self.base_path, key))
