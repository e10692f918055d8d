"""Tables. Names, ids, states, times and numbers are never cut: people copy them, and read them on 80 columns.

Rich needs seconds for thousands of rows, because it measures and wraps each cell.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

FAST_RENDER_MIN_ROWS = 50
_MIN_TEXT_WIDTH = 12
"""Columns of prose wrap, and get at least this width."""
_INDENT = 4
"""Of the columns that find no room beside the others."""


class TextTable:
    """A table that writes its rows itself when there are many and each fits on one line.

    The output is the same as that of rich. Rich writes smaller tables, and tables that are too wide. Where the columns
    find no room beside each other, they first come closer. Then the last ones go to a further line of each row.

    Attributes:
        columns: how each column is drawn, and its heading.
        title: a line above the table; None for none.
        gap: the spaces between two columns, if there is room: 2 or 1.
        rows: the cells. A cell that is plain text is rich's markup.
    """

    def __init__(self, columns: Sequence[Column], title: Text | None = None, gap: int = 2) -> None:
        self.columns = tuple(columns)
        self.title = title
        self.gap = gap
        self.rows: list[Sequence[str | Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row. Cells that are missing at its end are empty."""
        self.rows.append((*cells, *("",) * (len(self.columns) - len(cells))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Write the table."""
        lines = None
        if len(self.rows) >= FAST_RENDER_MIN_ROWS and not self.title:
            lines = self._render_fast(console, options.max_width)
        if lines is not None:
            yield from lines
            return
        widths = [self._measure_least_width(number) for number in range(len(self.columns))]
        if _add_gaps(widths, 1) > options.max_width:
            yield from self._stack(console, widths, options.max_width)
            return
        yield self._build_rich_table(gap=self.gap if _add_gaps(widths, self.gap) <= options.max_width else 1)

    def _build_rich_table(self, gap: int) -> Table:
        table = Table(
            *(column.copy() for column in self.columns),
            title=self.title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, gap - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
            header_style="bold",
        )
        for cells in self.rows:
            table.add_row(*cells)
        return table

    def _measure_least_width(self, number: int) -> int:
        """Return the width that a column needs: all of what does not wrap, and a part of prose."""
        cells = (self.columns[number].header, *(row[number] for row in self.rows))
        lines = (line for cell in cells for line in getattr(cell, "plain", str(cell)).splitlines())
        width = max(map(cell_len, lines), default=0)
        return width if self.columns[number].no_wrap else min(width, _MIN_TEXT_WIDTH)

    def _stack(self, console: Console, widths: Sequence[int], max_width: int) -> RenderResult:
        """Write each row on several lines: as many columns on each as have room."""
        groups: list[list[int]] = [[]]
        for number, width in enumerate(widths):
            indent = _INDENT if len(groups) > 1 else 0
            group_widths = [widths[member] for member in groups[-1]]
            if groups[-1] and indent + _add_gaps([*group_widths, width], 2) > max_width:
                groups.append([])
            groups[-1].append(number)
        if self.title:
            yield self.title
        if len(self.rows) >= FAST_RENDER_MIN_ROWS:
            lines = self._stack_fast(_CellWriter(console), groups, widths, max_width)
            yield Segment("\n".join([*lines, ""]))
            return
        yield from self._stack_row(groups, widths, [column.header for column in self.columns], "bold")
        yield Text("─" * max_width)
        for cells in self.rows:
            yield from self._stack_row(groups, widths, cells, "")

    def _stack_row(
        self, groups: Sequence[Sequence[int]], widths: Sequence[int], cells: Sequence[RenderableType], style: str
    ) -> RenderResult:
        for position, group in enumerate(groups):
            grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
            for number in group:
                column = self.columns[number]
                is_last_text = number == group[-1] and not column.no_wrap
                grid.add_column(justify=column.justify, overflow="fold", width=None if is_last_text else widths[number])
            grid.add_row(*(cells[number] for number in group), style=style)
            yield Padding(grid, (0, 0, 0, _INDENT if position else 0), expand=False)

    def _stack_fast(
        self, writer: "_CellWriter", groups: Sequence[Sequence[int]], widths: Sequence[int], max_width: int
    ) -> Iterator[str]:
        """Yield the lines that ``_stack_row`` would write."""
        pads: list[list[tuple[int, _Pad]]] = []
        for position, group in enumerate(groups):
            room = max_width - (_INDENT if position else 0) - sum(widths[number] + 2 for number in group[:-1])
            limits = {number: widths[number] for number in group}
            last = group[-1]
            limits[last] = min(limits[last], room) if self.columns[last].no_wrap else room
            pads.append([(number, _Pad(self.columns[number].justify == "right", limits[number])) for number in group])
        for place, cells in enumerate(([column.header for column in self.columns], *self.rows)):
            for position, group_pads in enumerate(pads):
                indent = " " * _INDENT if position else ""
                parts = [
                    writer.wrap(cells[number], pad.width, self.columns[number], "" if place else "bold")
                    for number, pad in group_pads
                ]
                for line in range(max(map(len, parts))):
                    padded = (
                        pad(part[line] if line < len(part) else _BLANK)
                        for part, (_, pad) in zip(parts, group_pads, strict=True)
                    )
                    yield (indent + "  ".join(padded)).rstrip(" ")
            if not place:
                yield "─" * max_width

    def _render_fast(self, console: Console, max_width: int) -> list[Segment] | None:
        """Return the lines of the table; None if they do not all fit, or a cell has several lines."""
        writer = _CellWriter(console)
        headings = [writer.write(column.header, "bold") for column in self.columns]
        rows = [[writer.write(cell) for cell in cells] for cells in self.rows]
        if writer.has_several_lines:
            return None
        columns = zip(headings, zip(*rows, strict=True), strict=True)
        widths = [max(heading.width, *{cell.width for cell in cells}) for heading, cells in columns]
        length = _add_gaps(widths, self.gap)
        if length > max_width:
            return None
        pads = [_Pad(column.justify == "right", width) for column, width in zip(self.columns, widths, strict=True)]
        gap = " " * self.gap
        lines = [gap.join([pad(cell) for pad, cell in zip(pads, cells, strict=True)]) for cells in (headings, *rows)]
        return [Segment("\n".join([lines[0], "─" * length, *lines[1:], ""]))]


class _Written(NamedTuple):
    """A cell as it is written, with the codes of its colours, and the width that it takes."""

    text: str
    width: int
    is_right: bool = False


_BLANK: Final = _Written("", 0)


class _CellWriter:
    """Writes cells for a console. Rows of a fleet share cells: each is written once.

    Attributes:
        has_several_lines: whether a cell was none that fits on one line.
    """

    def __init__(self, console: Console) -> None:
        self.has_several_lines = False
        self._console = console
        self._color_system = COLOR_SYSTEMS[console.color_system] if console.color_system else None
        self._written: dict[tuple[object, str], _Written] = {}
        self._wrapped: dict[tuple[object, int, str], list[_Written]] = {}

    def write(self, cell: RenderableType, style: str = "") -> _Written:
        """Return a cell as it is written."""
        key: object = cell if isinstance(cell, str) else id(cell)  # the rows of the table keep the cells
        if isinstance(cell, Text) and not cell.spans:
            key = (cell.plain, cell.style, cell.justify)
        written = self._written.get((key, style))
        if written is None:
            written = self._written[key, style] = self._write_new(cell, style)
        return written

    def wrap(self, cell: RenderableType, width: int, column: Column, style: str) -> list[_Written]:
        """Return the lines of a cell in a column of this width."""
        key = (cell if isinstance(cell, str) else id(cell), width, style)
        lines = self._wrapped.get(key)
        if lines is None:
            text = self._console.render_str(cell, highlight=False) if isinstance(cell, str) else cell
            if not isinstance(text, Text):
                raise TypeError(f"a cell is text, not {type(text).__name__}")
            if cell_len(text.plain) > width or {"\n", "\t"} & set(text.plain):
                justify = text.justify or column.justify
                texts: Iterable[Text] = text.wrap(self._console, width, justify=justify, overflow="fold")
            else:
                texts = (text,)
            lines = self._wrapped[key] = [self._write_new(line, style) for line in texts]
        return lines

    def _write_new(self, cell: RenderableType, style: str) -> _Written:
        text = self._console.render_str(cell, highlight=False) if isinstance(cell, str) else cell
        if not isinstance(text, Text) or {"\n", "\t"} & set(text.plain):
            self.has_several_lines = True
            return _Written("", 0)
        shown = text.plain
        if self._color_system is not None and (text.spans or text.style or style):
            shown = "".join(self._color(segment) for segment in self._split(text, style))
        return _Written(shown, cell_len(text.plain), text.justify == "right")

    def _split(self, text: Text, style: str) -> Iterable[Segment]:
        if text.spans:
            return text.render(self._console, end="")
        return (Segment(text.plain, self._console.get_style(style or text.style)),)

    def _color(self, segment: Segment) -> str:
        style = segment.style
        if style is None:
            return segment.text
        return (style.without_color if self._console.no_color else style).render(
            segment.text, color_system=self._color_system, legacy_windows=self._console.legacy_windows
        )


class _Pad:
    """Fills the cells of a column with blanks. The cells of a fleet are alike: each is filled once.

    Attributes:
        width: of the column.
    """

    def __init__(self, is_right: bool, width: int) -> None:
        self.width = width
        self._is_right = is_right
        self._padded: dict[int, str] = {}

    def __call__(self, cell: _Written) -> str:
        """Return a cell of the table, which has the width of the column then."""
        padded = self._padded.get(id(cell))
        if padded is None:
            blanks = " " * (self.width - cell.width)
            padded = blanks + cell.text if self._is_right or cell.is_right else cell.text + blanks
            self._padded[id(cell)] = padded
        return padded


def _add_gaps(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


class SharedCells:
    """Makes the cells of values. Equal values have one cell, which a table writes once: rows of a fleet are alike.

    Args:
        build: makes the cell of a value.
    """

    def __init__(self, build: Callable[[Any], Text]) -> None:
        self._build = build
        self._cells: dict[tuple[type, object], Text] = {}

    def __call__(self, value: object) -> Text:
        """Return the cell of a value. One that is a cell stays; those that have no hash have a cell each."""
        if isinstance(value, Text):
            return value
        if isinstance(value, (Mapping, list)):
            return self._build(value)
        key = (type(value), value)
        return self._cells.get(key) or self._cells.setdefault(key, self._build(value))


def build_table(*columns: str | Column, title: str = "", gap: int = 2) -> TextTable:
    """Return an empty table for terminals of 80 and more columns."""
    return TextTable(
        [column if isinstance(column, Column) else Column(column, overflow="fold") for column in columns],
        Text(title, style="bold") if title else None,
        gap,
    )


def build_column(heading: str, *, is_number: bool = False, wraps: bool = False) -> Column:
    """Return a column of names and states, or of numbers, or of prose, which wraps."""
    return Column(heading, justify="right" if is_number else "left", no_wrap=is_number or not wraps, overflow="fold")
