"""A release after the present one: it has one more table, and one more migration, which adds the table."""

import shutil
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Integer, Table

from tasks.records import schema, setup

NEXT_REVISION: Final = "9000"
_MIGRATION: Final = f'''"""Adds a table."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "{setup.find_newest_revision()}"


def upgrade() -> None:
    """Add the table."""
    op.create_table("of_the_next_release", sa.Column("id", sa.Integer, primary_key=True))
'''


def make_migrations(folder: Path) -> Path:
    """Write the migrations of the next release, and return their folder for ``setup._MIGRATIONS_DIRECTORY``."""
    migrations = folder / "migrations"
    shutil.copytree(setup._MIGRATIONS_DIRECTORY, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / f"versions/v{NEXT_REVISION}_next.py").write_text(_MIGRATION)
    return migrations


def become_next_release(migrations: Path) -> None:
    """Let this process be of the next release, with the folder of its migrations."""
    setup._MIGRATIONS_DIRECTORY = migrations
    Table("of_the_next_release", schema.metadata, Column("id", Integer, primary_key=True))
