"""Shows rows as a table. Headings are those of the row's class, and the type of a column decides how it looks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from rich.text import Text

from fleetpatch.cli.runtime.output import render_count, render_state, to_safe_text
from fleetpatch.cli.runtime.table import SharedCells, TextTable, build_column, build_table
from inventory.data_class import dataclass
from inventory.files.problems import did_you_mean
from tasks.domain.errors import RequestError
from tasks.domain.rows import ColumnUnit, Field, list_fields
from tasks.reports.formatting import NO_FIGURE, format_iso_utc, format_known_duration, format_share, format_size

Item = TypeVar("Item")
_NUMBERS: Final = frozenset({"integer", "number"})
_FORMATS: Final[Mapping[ColumnUnit, Callable[[Any], str]]] = {
    "seconds": format_known_duration,
    "bytes": format_size,
    "share": format_share,
}


@dataclass(frozen=True, slots=True)
class Fact(Generic[Item]):
    """A fact about each item of a list that only the command shows: a value in JSON, a column of the table, or both."""

    key: str  # the name in JSON; "": only the table has it
    read: Callable[[Item], object]  # returns the value of an item. JSON gets times, states and tuples as its own types.
    heading: str | None = None  # of the column; None: only JSON has it
    # Returns the cell of an item, where its value does not make it. Plain text is no markup.
    render: Callable[[Item], object] | None = None
    style: str = ""  # the colour of the text
    limit: int | None = None  # the number of characters from which text is cut; None: it is not
    wraps: bool = False  # whether the text may be on several lines
    is_number: bool = False  # whether it is on the right

    def build_cell(self, item: Item) -> Text:
        """Return the cell of an item. A value that is None is a dash."""
        value = (self.render or self.read)(item)
        return value if isinstance(value, Text) else self._build_text(value)

    def build_cells(self, items: Iterable[Item]) -> Iterator[Text]:
        """Return the cells of items. Those of one value are one object: a fleet has the same values in many rows."""
        return map(SharedCells(self._build_text), map(self.render or self.read, items))

    def _build_text(self, value: object) -> Text:
        return to_safe_text(NO_FIGURE if value is None else _format_value(value), self.style, self.limit)


def build_list_json(facts: Sequence[Fact[Item]], items: Iterable[Item]) -> list[dict[str, object]]:
    """Return items as JSON data."""
    return [{fact.key: _to_json_value(fact.read(item)) for fact in facts if fact.key} for item in items]


def build_list_table(
    facts: Sequence[Fact[Item]], items: Iterable[Item], *, without: Sequence[str] = (), title: str = ""
) -> TextTable:
    """Return a table of items. ``without``: the headings of columns that are left out."""
    columns = [fact for fact in facts if fact.heading is not None and fact.heading not in without]
    headings = (build_column(fact.heading or "", is_number=fact.is_number, wraps=fact.wraps) for fact in columns)
    table = build_table(*headings, title=title)
    all_items = list(items)
    for cells in zip(*(fact.build_cells(all_items) for fact in columns), strict=True):
        table.add_row(*cells)
    return table


def _to_json_value(value: object) -> object:
    match value:
        case datetime():
            return format_iso_utc(value)
        case Enum():
            return value.value
        case date():
            return value.isoformat()
        case tuple() | list():
            return [_to_json_value(member) for member in value]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of a table, where it differs from what the row's class says."""

    name: str  # the field's name; "last_run.state": a field of the row in the field ``last_run``.
    heading: str = ""  # "": the field's own
    style: str = ""  # the colour of its text; of a count: if it is not zero
    limit: int | None = None  # the number of characters from which text is cut; None: it is not
    wraps: bool = False  # whether its text may be on several lines
    is_number: bool | None = None  # whether it is on the right; None: as its type says
    # Returns the cell of a row, where one value does not make it; None: the type says it. Plain text is no markup.
    render: Callable[[Any], str | Text] | None = None


def build_row_table(
    row_type: type, rows: Iterable[object], columns: Sequence[str | Shown], *, title: str = ""
) -> TextTable:
    """Return a table of rows, with columns by the names of their fields. A value that is not known is a dash."""
    chosen = [column if isinstance(column, Shown) else Shown(column) for column in columns]
    fields = [_find_field(row_type, column.name) for column in chosen]
    headings = (
        build_column(
            column.heading or field.heading,
            is_number=field.kind in _NUMBERS if column.is_number is None else column.is_number,
            wraps=column.wraps or field.column.is_prose,
        )
        for column, field in zip(chosen, fields, strict=True)
    )
    table = build_table(*headings, title=title)
    builders = [_CellBuilder(column, field) for column, field in zip(chosen, fields, strict=True)]
    for row in rows:
        table.add_row(*[build(row) for build in builders])
    return table


def parse_columns(row_type: type, names: str) -> list[str]:
    """Return the columns that a person chose, as ``name,compliance,last_run.state``.

    Raises:
        RequestError: there is no such column.
    """
    column_names = list_column_names(row_type)
    chosen = [name.strip().replace("-", "_") for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in column_names:
            hint = f"{did_you_mean(name, column_names)}The columns are: {', '.join(column_names)}."
            raise RequestError(f"there is no column {name!r}", hint=hint)
    if not chosen:
        raise RequestError("no column is chosen", hint=f"The columns are: {', '.join(column_names)}.")
    return chosen


def list_column_names(row_type: type) -> list[str]:
    """Return the names of all columns that a table can show."""
    names: list[str] = []
    for field in list_fields(row_type):
        if field.kind == "row" and field.row_type is not None:
            names += (f"{field.name}.{name}" for name in list_column_names(field.row_type))
        elif field.kind != "rows":
            names.append(field.name)
    return names


def _find_field(row_type: type, name: str) -> Field:
    first, _, inner_name = name.partition(".")
    field = next(field for field in list_fields(row_type) if field.name == first)
    return _find_field(field.row_type, inner_name) if inner_name and field.row_type is not None else field


class _CellBuilder:
    """Builds the cells of a column. Rows of a fleet have the same values: each has one cell."""

    def __init__(self, shown: Shown, field: Field) -> None:
        self._shown = shown
        self._field = field
        self._names = shown.name.split(".")
        self._find_value_cell, self._find_text_cell = SharedCells(self._build), SharedCells(self._build_text)

    def __call__(self, row: object) -> Text:
        """Return the cell of a row."""
        shown = self._shown
        if shown.render is not None:
            return self._find_text_cell(shown.render(row))
        value: Any = row
        for name in self._names:
            value = getattr(value, name) if value is not None else None
        return self._find_value_cell(value)

    def _build(self, value: Any) -> Text:  # noqa: ANN401 - of any column
        if value is None:
            return Text(NO_FIGURE)
        if isinstance(value, Enum):
            return render_state(value.value)
        if self._field.kind in _NUMBERS and self._field.column.unit == "count":
            return render_count(value, self._shown.style)
        return self._find_text_cell(_FORMATS.get(self._field.column.unit, _format_value)(value) or NO_FIGURE)

    def _build_text(self, text: str) -> Text:
        return to_safe_text(text, self._shown.style, self._shown.limit)


def _format_value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Enum():
            return str(value.value)
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
        case tuple():
            return ", ".join(value) or "none"
        case Mapping():
            return ", ".join(f"{key}={text}" for key, text in value.items())
        case _:
            return str(value)
