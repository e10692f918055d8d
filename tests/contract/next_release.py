"""A release after the present one: its migrations are the present ones, and one more."""

import shutil
from pathlib import Path
from typing import Final

from tasks.records import setup

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
