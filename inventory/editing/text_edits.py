"""Replaces parts of a text by their positions, so that all the rest stays as people wrote it. Pure."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from inventory.data_class import dataclass
from inventory.errors import InventoryError


class CannotEdit(InventoryError):
    """A file can't be changed without a change of something else. The hint says what a person writes."""


@dataclass(frozen=True, slots=True, order=True)
class TextEdit:
    """A part of a text, from ``start`` to before ``end`` in characters, and what replaces it."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True, slots=True)
class FileEdit:
    """A file with its whole text before and after a change."""

    path: Path
    before: str | None  # the text; None: the file does not exist
    after: str
    machines: tuple[str, ...]  # names of the machines that the change is about

    def build_diff(self, context: int = 3) -> str:
        """Return the change as a unified diff, for people and for ``patch -p0``.

        ``context`` is how many lines around a change are shown.
        """
        old = self.before or ""
        lines = difflib.unified_diff(
            old.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            str(self.path) if self.before is not None else "/dev/null",
            str(self.path),
            n=context,
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def apply_edits(text: str, edits: Iterable[TextEdit]) -> str:
    """Return a text with all edits. They must not overlap."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


def find_line_end(text: str, position: int) -> int:
    """Return where the line of a position ends, before its line break."""
    ends = [end for sign in "\r\n" if (end := text.find(sign, position)) >= 0]
    return min(ends, default=len(text))


def find_line_break(text: str) -> str:
    """Return the line break that a text uses: that of its first line."""
    end = find_line_end(text, 0)
    return "\r\n" if text[end : end + 2] == "\r\n" else "\n"
