"""Answers questions in SQL about the records, in a database in memory that can reach nothing else.

DuckDB runs the SQL. Only tables that the question names are read from the records. Files, the network, extensions,
settings and Python variables are out of reach, and a question can only read.
"""

import contextlib
import difflib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.protocols.tables import TABLES, TableSource
from tasks.reports.export.tabular_formats import build_arrow_array, build_arrow_kinds
from tasks.reports.query.azure_views import SOURCES, VIEWS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DEFAULT_SECONDS: Final = 120.0
"""How long a question may take."""

MEMORY_LIMIT: Final = "2GB"
MAX_ANSWER_BYTES: Final = 2 * 10**9
_BATCH_ROWS: Final = 100_000
_INTERRUPT_SECONDS: Final = 0.1
_SETTINGS: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # a table name would otherwise find a variable of this program
    "temp_directory": "",  # nothing goes to the disk
    "memory_limit": MEMORY_LIMIT,
}
_WORD: Final = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
NAMES: Final = (*VIEWS, *TABLES)
"""The tables that a question can name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of an answer, with typed columns."""

    table: "pa.Table"  # the rows, as an Arrow table. Times are in UTC.

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.table.column_names)

    def iterate_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as Python values: structs and maps are dicts, times are aware.

        Raises:
            RequestError: Python has no such value: a time before year 1 or after year 9999.
        """
        for batch in self.table.to_batches(max_chunksize=_BATCH_ROWS):
            try:
                columns = [column.to_pylist(maps_as_pydicts="lossy") for column in batch.columns]
            except (OverflowError, ValueError) as error:
                raise RequestError(
                    f"the answer has a time that can't be shown: {error}", hint="Ask for its text: column::VARCHAR."
                ) from error
            yield from zip(*columns, strict=True)

    def list_rows(self) -> list[tuple[Any, ...]]:
        """Return all rows as ``iterate_rows`` yields them."""
        return list(self.iterate_rows())

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a pandas frame. Columns of integers that lack values stay integers."""
        import pandas as pd  # noqa: PLC0415 - loads slowly
        import pyarrow as pa  # noqa: PLC0415 - loads slowly

        dtypes = {
            pa.int64(): pd.Int64Dtype(),
            pa.int32(): pd.Int32Dtype(),
            pa.bool_(): pd.BooleanDtype(),
            pa.string(): pd.StringDtype(),
        }
        frame: pd.DataFrame = self.table.to_pandas(types_mapper=dtypes.get)
        return frame


class FleetQuery:
    """A database in memory for questions about one state of the records. Each table is read once, when it is named.

    Only one thread may use it. A question may take so many ``seconds``, without the time for reading the tables.
    """

    def __init__(self, source: TableSource, seconds: float = DEFAULT_SECONDS) -> None:
        import duckdb  # noqa: PLC0415 - loads slowly

        self._source = source
        self._seconds = seconds
        self._loaded: set[str] = set()
        self._connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET lock_configuration = true")
        for name in TABLES:
            self._connection.register(name, build_arrow_kinds(TABLES[name]).empty_table())
        for statement in VIEWS.values():
            self._connection.execute(statement)

    def ask(self, sql: str) -> Answer:
        """Return the answer to one SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE statement.

        Columns of the same name get numbers: ``name``, ``name_1``. Intervals become text: ``1 day 02:00:00``.

        Args:
            sql: the statement, in DuckDB's SQL.

        Raises:
            RequestError: it is not one statement that only reads, it is not valid, it takes too long, or its answer
                is too large.
            RecordsError: the records can't be read.
        """
        self._require_reading(sql)
        for name in sorted(find_tables(sql) - self._loaded):
            self._connection.unregister(name)
            self._connection.register(name, _read_arrow_table(self._source, name))
            self._loaded.add(name)
        with _translate_errors():
            return self._execute(sql)

    def read_frame(self, sql: str) -> "pd.DataFrame":
        """Return the answer as a pandas frame. Raises as ``ask`` does."""
        return self.ask(sql).to_frame()

    def close(self) -> None:
        """Free the memory."""
        self._connection.close()

    def _require_reading(self, sql: str) -> None:
        import duckdb  # noqa: PLC0415 - loaded by now

        with _translate_errors():
            statements = self._connection.extract_statements(sql)
        # No EXPLAIN: with ANALYZE it executes its statement, also one that writes.
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise RequestError(
                "the query must be one statement that only reads",
                hint="Begin it with SELECT, WITH, DESCRIBE, SHOW TABLES or SUMMARIZE, and have no second one.",
            )

    def _execute(self, sql: str) -> Answer:
        """Return the answer, from a thread of its own: DuckDB does not always look for SIGINT while it works.

        Raises:
            RequestError: the time is over.
        """
        with ThreadPoolExecutor(1, "query") as thread:
            answer: Future[Answer] | None = None
            try:
                answer = thread.submit(self._read_answer, sql)
                return answer.result(self._seconds)
            except TimeoutError as error:
                raise RequestError(
                    "the query takes too long", hint="Ask for fewer rows, or for fewer days (--days)."
                ) from error
            finally:
                # DuckDB forgets an interrupt that comes before it begins. The block waits for the thread.
                while answer is not None and not answer.done():
                    self._connection.interrupt()
                    wait([answer], _INTERRUPT_SECONDS)

    def _read_answer(self, sql: str) -> Answer:
        relation = self._connection.sql(sql)
        if "INTERVAL" in map(str, relation.types):  # neither JSON nor Parquet has this type
            columns = [f"#{number}" for number in range(1, len(relation.columns) + 1)]
            for number, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True)):
                if str(kind) == "INTERVAL":
                    escaped = name.replace('"', '""')
                    columns[number] += f'::VARCHAR AS "{escaped}"'
            relation = relation.project(", ".join(columns))
        return Answer(_collect(relation.to_arrow_reader(_BATCH_ROWS)))


@contextlib.contextmanager
def open_query(source: TableSource, seconds: float = DEFAULT_SECONDS) -> Iterator[FleetQuery]:
    """Give a database for questions about the records: ``QueryTables`` of tasks.records reads them."""
    with contextlib.closing(FleetQuery(source, seconds)) as query:
        yield query


def find_tables(sql: str) -> frozenset[str]:
    """Return the tables of the records that a statement may read: those whose names are words of it.

    A table that is named only in a comment or in text is included. That costs time, and is never wrong.
    """
    names = {word.lower() for word in _WORD.findall(sql)}
    direct = frozenset(TABLES) & names
    return direct.union(*(SOURCES[name] for name in SOURCES if name in names))


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    import duckdb  # noqa: PLC0415 - loaded by now

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise RequestError(
            f"the query needs more than {MEMORY_LIMIT} of memory", hint="Ask for fewer columns, or for fewer days."
        ) from error
    except duckdb.Error as error:
        raise RequestError(f"the query is not valid: {_shorten(str(error))}", hint=_build_hint(str(error))) from error


def _collect(reader: "pa.RecordBatchReader") -> "pa.Table":
    """Return the table of a reader. DuckDB's limit of memory does not count what has left it."""
    import pyarrow as pa  # noqa: PLC0415 - loaded by now

    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > MAX_ANSWER_BYTES:
            raise RequestError(
                f"the answer has more than {MAX_ANSWER_BYTES // 10**9} GB", hint="Ask for fewer rows: LIMIT, or --days."
            )
    table = pa.Table.from_batches(batches, schema=reader.schema)
    unique_names: dict[str, None] = {}
    for name in table.column_names:
        number, unique = 0, name
        while unique in unique_names or (number and unique in table.column_names):
            number += 1
            unique = f"{name}_{number}"
        unique_names[unique] = None
    return table.rename_columns(list(unique_names))


def _shorten(message: str) -> str:
    """Return the first line of DuckDB's message, without its own guess about names, which may be of system tables."""
    first, *other_lines = [line.strip() for line in message.splitlines() if line.strip()]
    candidates = [line for line in other_lines if line.startswith("Candidate")]
    return " ".join([first, *candidates[:1]])


def _build_hint(message: str) -> str:
    missing = re.search(r"Table with name (\S+) does not exist", message)
    if missing:
        near = difflib.get_close_matches(missing[1].lower(), NAMES, n=3, cutoff=0.5)
        suggestion = f"Did you mean {' or '.join(near)}? " if near else ""
        return f"{suggestion}The tables are: {', '.join(NAMES)}."
    if "permission" in message.lower() or "disabled" in message.lower():
        return "A query reads the records only: no files, no network, no extensions."
    return '`fleetpatch query "DESCRIBE machines"` shows the columns of a table.'


def _read_arrow_table(source: TableSource, name: str) -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415 - loads slowly

    schema = build_arrow_kinds(TABLES[name])
    batches = []
    for rows in source.read_table(name):
        columns = list(zip(*rows, strict=True))
        if columns:
            arrays = [build_arrow_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)
