"""Tables of thousands of rows: rich measures and wraps each cell, which takes seconds where no cell needs it."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

MANY_ROWS = 50


class Grid(Table):
    """A rich table that writes its rows itself when they are many and each fits on one line.

    What it writes is what rich writes; a smaller table, and one that is too wide, is left to rich.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Write the table."""
        lines = self._lines(console, options.max_width) if self.row_count >= MANY_ROWS and not self.title else None
        if lines is None:
            yield from super().__rich_console__(console, options)
        else:
            yield from lines

    def _lines(self, console: Console, room: int) -> list[Segment] | None:
        cells = [[_text(console, cell) for cell in column._cells] for column in self.columns]  # noqa: SLF001 - no other way
        heads = [_text(console, column.header) for column in self.columns]
        if any(text is None for column in (*cells, heads) for text in column):
            return None
        known = [[text for text in column if text is not None] for column in cells]
        titles = [text for text in heads if text is not None]
        widths = [max(cell_len(t.plain) for t in (head, *column)) for head, column in zip(titles, known, strict=True)]
        last = len(widths) - 1
        if sum(widths) + 2 * last > room or any(_is_bound(column) for column in self.columns):
            return None
        bold = console.get_style(self.header_style)
        written = self._row(console, titles, widths, bold)
        rule = "─" * (sum(widths) + 2 * last)
        written += [Segment(rule), Segment.line()]
        for row in zip_longest(*known):
            written += self._row(console, row, widths, None)
        return written

    def _row(
        self, console: Console, row: Sequence[Text | None], widths: Sequence[int], style: Style | None
    ) -> list[Segment]:
        written: list[Segment] = []
        last = len(widths) - 1
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            text = cell or Text()
            gap = " " * (width - cell_len(text.plain))
            after = "  " if number < last else ""
            is_right = (text.justify or self.columns[number].justify) == "right"
            if is_right:
                written.append(Segment(gap))
            if text.spans:
                written += text.render(console, end="")
            else:
                written.append(Segment(text.plain, style or (console.get_style(text.style) if text.style else None)))
            written.append(Segment(after if is_right else gap + after))
        return [*written, Segment.line()]


def _is_bound(column: Column) -> bool:
    return any(each is not None for each in (column.width, column.min_width, column.max_width, column.ratio))


def _text(console: Console, cell: object) -> Text | None:
    """Return a cell's text; None when it takes more than a line, or is something else."""
    text = console.render_str(cell, highlight=False) if isinstance(cell, str) else cell
    return text if isinstance(text, Text) and not ({"\n", "\t"} & set(text.plain)) else None
