"""The fleet in memory: rows as tables of one DuckDB database, so that all figures are asked from one place."""

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from tasks.reports.rows import build_arrow_table

_SETTINGS: Final = {"enable_external_access": "false", "python_enable_replacements": "false", "threads": "2"}
_NEW: Final = "new_rows"


class FleetTables:
    """Tables of rows, for questions in SQL. All threads may share it.

    Questions are texts of ours. Values from outside, such as filters, are always parameters.
    """

    def __init__(self) -> None:
        import duckdb  # noqa: PLC0415 - loads slowly

        self._lock = threading.Lock()
        self._connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
        self._connection.execute("SET TimeZone = 'UTC'")

    def create(self, table: str, row_type: type, rows: Sequence[object] = ()) -> None:
        """Create a table with the columns of a row class. One with this name is replaced, all at once.

        A row within a row has its columns there, as in CSV: ``last_run_state``.
        """
        self._execute([f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {_NEW}"], row_type, rows)  # noqa: S608

    def replace(self, table: str, row_type: type, rows: Sequence[object], key: str, values: Collection[str]) -> None:
        """Replace some rows of a table, all at once: those that have one of the values in the column ``key``."""
        delete = f"DELETE FROM {table} WHERE {key} IN (SELECT unnest($values))"  # noqa: S608
        insert = f"INSERT INTO {table} SELECT * FROM {_NEW}"  # noqa: S608
        self._execute([delete, insert], row_type, rows, {"values": list(values)})

    def _execute(
        self,
        statements: Sequence[str],
        row_type: type,
        rows: Sequence[object],
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        new = build_arrow_table(row_type, rows)
        with self._lock:
            self._connection.register(_NEW, new)
            self._connection.begin()
            try:
                for statement in statements:
                    self._connection.execute(statement, {} if _NEW in statement else parameters)
                self._connection.commit()
            except BaseException:
                self._connection.rollback()
                raise
            finally:
                self._connection.unregister(_NEW)

    def ask(self, question: str, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of the answer.

        Args:
            question: a SELECT of ours, with ``$name`` where a parameter stands.
            parameters: the values of exactly these names.
        """
        with self._lock:
            return self._connection.execute(question, dict(parameters or {})).fetchall()

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._connection.close()
