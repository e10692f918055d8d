"""Reads the names that people type: of runs, machines, updates, tokens, fleets. For the completion of shells.

It is quick: it loads SQLAlchemy only for PostgreSQL. It never creates, migrates or changes records, and never waits
long for them. Records of another version may lack a table; then reading raises an error.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from tasks.domain.errors import RecordsError
from tasks.records.fleets import build_file_path, find_fleet
from tasks.records.storage.default_place import find_sqlite_file

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_WAIT_SECONDS: Final = 2

_RUNS: Final = "SELECT id, kind, state, started_at, scope FROM runs"
_NEWEST_RUNS: Final = " ORDER BY started_at DESC LIMIT 50"
QUERIES: Final[Mapping[str, str]] = {
    "runs": _RUNS + _NEWEST_RUNS,
    "open runs": f"{_RUNS} WHERE state IN ('InProgress', 'Unknown'){_NEWEST_RUNS}",
    "machines": "SELECT DISTINCT machine FROM machine_states ORDER BY machine LIMIT 500",
    "updates": """
        SELECT name FROM assessment_updates WHERE machine = :machine
        UNION SELECT update_results.name FROM outcomes JOIN update_results ON update_results.outcome = outcomes.number
        WHERE outcomes.machine = :machine ORDER BY name LIMIT 500
        """,
    "held updates": "SELECT name, version, reason FROM held_updates WHERE released_at IS NULL ORDER BY name LIMIT 500",
    "rollouts": "SELECT id, created_at FROM rollouts WHERE ended_at IS NULL ORDER BY created_at DESC LIMIT 50",
    "tokens": "SELECT name, roles FROM access_tokens ORDER BY name LIMIT 500",
    "sessions": "SELECT DISTINCT name FROM web_sessions ORDER BY name LIMIT 500",
    "actors": "SELECT DISTINCT who FROM audit_log ORDER BY who LIMIT 500",
}
"""What can be read, by its name. Each answer is rows; the first column is what a person types."""


def read_names(what: str, records: str | None, **parameters: str) -> Sequence[Sequence[Any]]:
    """Return the rows of one of ``QUERIES``.

    ``what``: the name of the query.
    ``records``: the URL of the records; None: those of this process.
    """
    file = find_sqlite_file(records)
    if file is None:
        return _read_from_server(QUERIES[what], records, parameters)
    uri = f"{build_file_path(file, find_fleet()).as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)) as connection:
            return connection.execute(QUERIES[what], parameters).fetchall()
    except sqlite3.Error as error:
        raise RecordsError(f"{file} can't be read: {error}") from error


def _read_from_server(query: str, records: str | None, parameters: Mapping[str, str]) -> Sequence[Sequence[Any]]:
    from sqlalchemy import text  # noqa: PLC0415 - loads slowly, and a file needs none

    from tasks.records.storage.database import Database  # noqa: PLC0415 - the same

    url = _find_hasty_url(records)
    with closing(Database(url, find_fleet())) as database, database.begin_read("read names") as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def _find_hasty_url(records: str | None) -> "URL":
    from tasks.records.storage.url import find_records_url  # noqa: PLC0415 - loads SQLAlchemy

    url = find_records_url(records)
    is_file = url.get_backend_name() == "sqlite"
    return url if is_file else url.update_query_dict({"connect_timeout": str(_WAIT_SECONDS)})


def read_fleet_names(records: str | None) -> Sequence[str]:
    """Return this fleet and the others that have runs in the database of the records, by name."""
    from tasks.records.queries.other_fleets import find_other_fleets  # noqa: PLC0415 - loads SQLAlchemy
    from tasks.records.storage.database import Database  # noqa: PLC0415 - the same

    fleet = find_fleet()
    with closing(Database(_find_hasty_url(records), fleet)) as database:
        return sorted({fleet, *find_other_fleets(database)})
