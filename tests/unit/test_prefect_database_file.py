"""Which database of Prefect's server counts as lost."""

import logging
import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from flows.prefect_api.application import find_database_file
from flows.prefect_api.log_filters import LostTablesFilter


@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("sqlite+aiosqlite:////data/prefect.db?timeout=60", "/data/prefect.db"),
        ("sqlite+aiosqlite:////data/a#b/prefect.db", "/data/a#b/prefect.db"),
        ("sqlite+aiosqlite:///prefect.db", "prefect.db"),
        ("sqlite+aiosqlite:///file:/data/prefect.db?uri=true", "/data/prefect.db"),
        ("sqlite+aiosqlite://", None),
        ("sqlite+aiosqlite:///:memory:", None),
        ("sqlite+aiosqlite:///file::memory:?cache=shared&uri=true", None),
        ("sqlite+aiosqlite:///file:x?mode=memory&cache=shared&uri=true", None),
        ("postgresql+asyncpg://user:x@host/prefect", None),
    ],
)
def test_only_a_file_can_be_deleted(place: str, file: str | None) -> None:
    assert find_database_file(place) == (file and Path(file))


@pytest.mark.parametrize(
    ("words", "data", "lost"),
    [
        ("no such table: run", "x", "no such table: run"),
        (
            "<class 'asyncpg.exceptions.UndefinedTableError'>: relation \"run\" does not exist",
            "x",
            'relation "run" does not exist',
        ),
        ("database is locked", "no such table: run", None),
        ('invalid input syntax: "no such table: run"', "x", None),
    ],
)
def test_only_the_databases_own_words_end_the_server(words: str, data: str, lost: str | None) -> None:
    ends: list[str] = []
    try:
        raise OperationalError("SELECT ?", (data,), sqlite3.OperationalError(words))
    except OperationalError:
        record = logging.LogRecord("prefect", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert LostTablesFilter(ends.append).filter(record) is (lost is None)
    assert ends == ([lost] if lost else [])
