"""The file of the records where nobody names another one. This module loads no SQLAlchemy."""

import os
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from inventory.files.paths import expand_home, find_user_directory
from tasks.domain.errors import RecordsError

URL_VARIABLE: Final = "FLEETPATCH_RECORDS_URL"
_SQLITE_PREFIX: Final = "sqlite:///"


def find_default_file() -> Path:
    """Return ``records.db`` in the user's data directory. Raise RecordsError if the user has no home directory."""
    return find_user_directory(user_data_path, RecordsError, f"name the records by {URL_VARIABLE} or --records") / (
        "records.db"
    )


def find_sqlite_file(url: str | None) -> Path | None:
    """Return the SQLite file that a URL means, or the variable, or nobody; None: it means something else.

    It is quick, and good enough for a look: ``find_records_url`` checks URLs.

    Raises:
        RecordsError: the user has no home directory.
    """
    given_url = os.environ.get(URL_VARIABLE, "") if url is None else url
    if not given_url and url is None:
        return find_default_file()
    if not given_url.startswith(_SQLITE_PREFIX):
        return None
    return expand_home(Path(given_url.removeprefix(_SQLITE_PREFIX).partition("?")[0]), RecordsError).absolute()
