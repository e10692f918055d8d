"""Shows the answer to a query: as a table, JSON, CSV or Parquet."""

import math
import sys
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout
from fleetpatch.cli.runtime.table import SharedCells, build_table
from tasks.domain.errors import ReportError
from tasks.reports.formatting import format_count, format_iso_utc
from tasks.reports.sanitizing import escape_formula, sanitize_to_one_line

if TYPE_CHECKING:
    from tasks.reports.query.engine import Answer

MAX_CELL_CHARACTERS = 2000


def print_answer_table(answer: "Answer") -> None:
    """Print a table, and the number of its rows to stderr."""
    table = build_table(*answer.columns)
    rows = answer.list_rows()
    build_cell = SharedCells(lambda value: Text(_show(value)))
    for row in rows:
        table.add_row(*map(build_cell, row))
    print_to_stdout(table)
    print_to_stderr(format_count(len(rows), "row"))


def print_answer_json(answer: "Answer") -> None:
    """Print one JSON document, with the rows as objects in the order of the answer."""
    rows = [dict(zip(answer.columns, map(to_json_value, row), strict=True)) for row in answer.list_rows()]
    print_json({"columns": list(answer.columns), "rows": rows})


def print_answer_csv(answer: "Answer") -> None:
    """Print CSV. Text that a spreadsheet program would execute as a formula gets an apostrophe in front."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow([escape_formula(name) for name in answer.columns])
    for row in answer.iterate_rows():
        writer.writerow([escape_formula(value) if isinstance(value, str) else _show(value) for value in row])


def write_parquet(answer: "Answer", path: Path) -> None:
    """Write a Parquet file with the typed columns of the answer. Raise ReportError if the file can't be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(answer.table, path, compression="zstd")
    except OSError as error:
        raise ReportError(f"can't write {path}: {error.strerror or error}") from error
    except pa.ArrowNotImplementedError as error:  # an interval inside a list, for example
        raise ReportError(f"can't write {path}: {error}", hint="Ask for its text: column::VARCHAR.") from error
    print_to_stderr(f"{format_count(answer.table.num_rows, 'row')} written to {path}")


def to_json_value(value: Any) -> object:  # noqa: ANN401 - whatever SQL gives
    """Return a value of an answer as JSON data. Times are ISO 8601 in UTC. JSON has no infinity and no NaN: null."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() | Decimal():
            return _to_json_number(value)
        case datetime():
            return format_iso_utc(value) if value.tzinfo is not None else value.isoformat()
        case Mapping():
            return {str(key): to_json_value(item) for key, item in value.items()}
        case list():
            return [to_json_value(item) for item in value]
        case _:
            return str(value)


def _to_json_number(value: float | Decimal) -> float | None:
    if not math.isfinite(value):
        return None
    is_whole = isinstance(value, Decimal) and value == value.to_integral_value()  # also a sum of integers
    return int(value) if is_whole else float(value)


def _show(value: Any) -> str:  # noqa: ANN401 - whatever SQL gives
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping() | list():
            import json

            return sanitize_to_one_line(json.dumps(to_json_value(value), ensure_ascii=False), MAX_CELL_CHARACTERS)
        case _:
            return sanitize_to_one_line(str(value), MAX_CELL_CHARACTERS)
