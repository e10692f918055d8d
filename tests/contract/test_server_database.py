"""The tables that a Prefect server's new database begins with are those that Prefect makes."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import prefect
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from prefect.server import database

from flows.prefect_api.server_database import (
    HEADS,
    TABLES_FILE,
    TABLES_RELEASE,
    DatabaseState,
    make_tables,
    read_database_state,
)
from tests.support.prefect_tables import make_with_prefect

AUTOMATION = "INSERT INTO automation (name, description, enabled, trigger, actions) VALUES ('a', '', 1, '{}', '[]')"


@pytest.mark.slow
def test_the_tables_are_those_of_prefect(tmp_path: Path) -> None:
    assert prefect.__version__ == TABLES_RELEASE, "python -m tests.support.prefect_tables; then HEADS"
    assert statements(make_with_prefect(tmp_path)) == statements(TABLES_FILE.read_text(encoding="utf-8"))


def statements(text: str) -> list[list[str]]:
    """Return the lines of each statement, all sorted: Alembic writes a table's indexes and constraints in any order."""
    return sorted(sorted(line.rstrip(",") for line in statement.splitlines()) for statement in text.split(";\n"))


def test_the_last_steps_are_those_of_prefect() -> None:
    versions = Path(database.__file__).parent / "_migrations/versions"
    heads = set[str | None]()
    for kind in ("sqlite", "postgresql"):
        settings = Config()
        settings.set_main_option("path_separator", "os")
        settings.set_main_option("script_location", str(versions.parent))
        settings.set_main_option("version_locations", str(versions / kind))
        heads.add(ScriptDirectory.from_config(settings).get_current_head())
    assert heads == HEADS


def test_a_new_file_is_whole_and_private_and_one_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "home" / "prefect.db"
    url = f"sqlite+aiosqlite:///{file}"
    make_tables(url, "3.8.7")
    assert not file.exists(), "the tables of another release"
    assert read_database_state(url, {}, TABLES_RELEASE) == DatabaseState()

    make_tables(url, TABLES_RELEASE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["prefect.db"]
    assert read_database_state(url, {}, TABLES_RELEASE) == DatabaseState(has_all_tables=True, has_automations=False)
    assert not read_database_state(url, {}, "3.9.0").has_all_tables

    with closing(sqlite3.connect(file)) as tables, tables:
        tables.execute(AUTOMATION)
    make_tables(url, TABLES_RELEASE)
    assert read_database_state(url, {}, TABLES_RELEASE) == DatabaseState(has_all_tables=True, has_automations=True)
    with closing(sqlite3.connect(file)) as tables, tables:
        tables.execute("UPDATE alembic_version SET version_num = 'earlier'")
    assert not read_database_state(url, {}, TABLES_RELEASE).has_all_tables


def test_a_file_that_is_no_database_is_left_to_the_server(tmp_path: Path) -> None:
    file = tmp_path / "prefect.db"
    file.write_text("something else, of more than a few words" * 50)
    make_tables(f"sqlite:///{file}", TABLES_RELEASE)
    assert file.read_text().startswith("something else")
    assert read_database_state(f"sqlite:///{file}", {}, TABLES_RELEASE) == DatabaseState()
