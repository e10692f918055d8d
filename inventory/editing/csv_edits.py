"""Sets a column of rows in a CSV text. Pure. All other cells keep their quotes and blanks."""

from collections.abc import Iterator, Mapping

from inventory.data_class import dataclass
from inventory.editing.text_edits import TextEdit, apply_edits
from inventory.formats.fleet_files import find_delimiter


@dataclass(frozen=True, slots=True)
class _Row:
    """A row: its first line, and from where to where each cell reaches in the text, quotes included."""

    line: int
    cells: tuple[tuple[int, int], ...]

    def has_values(self, text: str) -> bool:
        """Return whether it is more than blanks or a comment."""
        first = text[slice(*self.cells[0])]
        return not first.lstrip().startswith("#") and any(text[slice(*cell)].strip() for cell in self.cells)


def set_csv_cells(text: str, column: str, values: Mapping[int, str]) -> str:
    """Return a CSV text in which a column of some rows has another value. A missing column becomes the last one.

    Args:
        text: its content, a valid CSV.
        column: the name in the header.
        values: the new value by the line in which a row begins. Each is a plain word.
    """
    delimiter, separator_line = find_delimiter(text)
    rows = [row for row in _iterate_rows(text, delimiter) if row.has_values(text)]
    header, *body = rows[1:] if separator_line else rows
    names = [text[slice(*cell)].strip().strip('"').strip() for cell in header.cells]
    edits = []
    if column in names:
        edits = [TextEdit(*row.cells[names.index(column)], values[row.line]) for row in body if row.line in values]
    else:
        ends = [(header.cells[-1][1], column), *((row.cells[-1][1], values.get(row.line, "")) for row in body)]
        edits = [TextEdit(end, end, f"{delimiter}{cell}") for end, cell in ends]
    return apply_edits(text, edits)


def _iterate_rows(text: str, delimiter: str) -> Iterator[_Row]:
    """Yield the rows as the module csv reads them, with the positions of their cells."""
    position, line = 0, 1
    while position < len(text):
        first_line, cells, ended = line, [], False
        while not ended:
            start = position
            if text[position : position + 1] == '"':
                position = _find_quote_end(text, position + 1)
            while position < len(text) and text[position] not in f"{delimiter}\r\n":
                position += 1
            cells.append((start, position))
            line += _count_lines(text[start:position])
            ended = text[position : position + 1] != delimiter
            position += 0 if ended else 1
        if position < len(text):
            position += 2 if text[position : position + 2] == "\r\n" else 1
            line += 1
        yield _Row(first_line, tuple(cells))


def _find_quote_end(text: str, position: int) -> int:
    """Return the position behind the closing quote. Two quotes are a quote in the cell."""
    while (end := text.find('"', position)) >= 0:
        if text[end + 1 : end + 2] != '"':
            return end + 1
        position = end + 2
    return len(text)


def _count_lines(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")
