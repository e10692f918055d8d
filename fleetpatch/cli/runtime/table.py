"""Tables. Names, ids, states, times and numbers are never cut: people copy them, and read them on 80 columns.

Rich needs seconds for thousands of rows, because it measures and wraps each cell.
"""

from collections.abc import Sequence
from itertools import zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

FAST_RENDER_MIN_ROWS = 50
_MIN_TEXT_WIDTH = 12
"""Columns of prose wrap, and get at least this width."""
_INDENT = 4
"""Of the columns that find no room beside the others."""


class FastTable(Table):
    """A rich table that writes its rows itself when there are many and each fits on one line.

    The output is the same as that of rich. Rich writes smaller tables, and tables that are too wide. Where the columns
    find no room beside each other, they first come closer. Then the last ones go to a further line of each row.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Write the table."""
        lines = (
            self._render_fast(console, options.max_width)
            if self.row_count >= FAST_RENDER_MIN_ROWS and not self.title
            else None
        )
        if lines is not None:
            yield from lines
            return
        widths = [_measure_least_width(column) for column in self.columns]
        if self._needs(widths, gap=2) > options.max_width:
            self.padding = 0
        if self._needs(widths, gap=1) <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._stack(widths, options.max_width)

    def _needs(self, widths: Sequence[int], *, gap: int) -> int:
        return sum(widths) + gap * (len(widths) - 1)

    def _stack(self, widths: Sequence[int], max_width: int) -> RenderResult:
        """Write each row on several lines: as many columns on each as have room."""
        groups: list[list[int]] = [[]]
        for number, width in enumerate(widths):
            indent = _INDENT if len(groups) > 1 else 0
            if groups[-1] and indent + self._needs([*(widths[each] for each in groups[-1]), width], gap=2) > max_width:
                groups.append([])
            groups[-1].append(number)
        if self.title:
            yield self.title
        yield from self._stack_row(groups, widths, [column.header for column in self.columns], "bold")
        yield Text("─" * max_width)
        for cells in zip(*(column._cells for column in self.columns), strict=True):  # noqa: SLF001
            yield from self._stack_row(groups, widths, cells, "")

    def _stack_row(
        self, groups: Sequence[Sequence[int]], widths: Sequence[int], cells: Sequence[RenderableType], style: str
    ) -> RenderResult:
        for position, group in enumerate(groups):
            grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
            for number in group:
                column = self.columns[number]
                is_last_text = number == group[-1] and not column.no_wrap
                grid.add_column(
                    justify=column.justify,
                    overflow="fold",
                    width=None if is_last_text else widths[number],
                )
            grid.add_row(*(cells[number] for number in group), style=style)
            yield Padding(grid, (0, 0, 0, _INDENT if position else 0), expand=False)

    def _render_fast(self, console: Console, max_width: int) -> list[Segment] | None:
        columns = [
            [_to_single_line_text(console, cell) for cell in (column.header, *column._cells)]  # noqa: SLF001 - there is no public way
            for column in self.columns
        ]
        if any(text is None for column in columns for text in column):
            return None
        widths = [max(cell_len(text.plain) for text in column if text is not None) for column in columns]
        last = len(widths) - 1
        if sum(widths) + 2 * last > max_width or any(_has_width_limits(column) for column in self.columns):
            return None
        bold = console.get_style(self.header_style)
        headers, *rows = zip_longest(*columns)
        segments = self._render_row(console, headers, widths, bold)
        rule = "─" * (sum(widths) + 2 * last)
        segments += [Segment(rule), Segment.line()]
        for row in rows:
            segments += self._render_row(console, row, widths, None)
        return segments

    def _render_row(
        self, console: Console, row: Sequence[Text | None], widths: Sequence[int], style: Style | None
    ) -> list[Segment]:
        segments: list[Segment] = []
        last = len(widths) - 1
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            text = cell or Text()
            gap = " " * (width - cell_len(text.plain))
            after = "  " if number < last else ""
            is_right = (text.justify or self.columns[number].justify) == "right"
            if is_right:
                segments.append(Segment(gap))
            if text.spans:
                segments += text.render(console, end="")
            else:
                segments.append(Segment(text.plain, style or (console.get_style(text.style) if text.style else None)))
            segments.append(Segment(after if is_right else gap + after))
        return [*segments, Segment.line()]


def _measure_least_width(column: Column) -> int:
    """Return the width that a column needs: all of what does not wrap, and a part of prose."""
    cells = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in (column.header, *column._cells))  # noqa: SLF001
    width = max((cell_len(line) for cell in cells for line in cell.plain.splitlines()), default=0)
    return width if column.no_wrap else min(width, _MIN_TEXT_WIDTH)


def _has_width_limits(column: Column) -> bool:
    return any(each is not None for each in (column.width, column.min_width, column.max_width, column.ratio))


def _to_single_line_text(console: Console, cell: object) -> Text | None:
    """Return the text of a cell; None when it has several lines or is not text."""
    text = console.render_str(cell, highlight=False) if isinstance(cell, str) else cell
    return text if isinstance(text, Text) and not ({"\n", "\t"} & set(text.plain)) else None


def build_table(*columns: str | Column, title: str = "") -> FastTable:
    """Return an empty table for terminals of 80 and more columns."""
    return FastTable(
        *(each if isinstance(each, Column) else Column(each, overflow="fold") for each in columns),
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )


def build_number_column(header: str) -> Column:
    """Return a column of numbers."""
    return Column(header, justify="right", no_wrap=True, overflow="fold")


def build_unwrapped_column(header: str) -> Column:
    """Return a column that does not wrap: names and states."""
    return Column(header, no_wrap=True, overflow="fold")
