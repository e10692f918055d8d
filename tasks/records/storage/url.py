"""Finds and checks the URL of the records (argument, environment or default), and redacts it for messages."""

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from inventory.files.paths import expand_home
from tasks.domain.errors import RecordsError
from tasks.records.storage.default_place import URL_VARIABLE, find_default_file

_URL_EXAMPLES = (
    "Examples: sqlite:////var/lib/fleetpatch/records.db (four slashes: an absolute path), "
    "postgresql://fleetpatch@db.example.org/fleetpatch (password in ~/.pgpass)."
)


def find_records_url(url: str | None = None) -> URL:
    """Return the URL of the records, ready for SQLAlchemy.

    Args:
        url: the URL. None: FLEETPATCH_RECORDS_URL, or ``records.db`` in the user's data directory if that variable is
            not set.

    Raises:
        RecordsError: the URL is malformed, or its kind of database is not supported. The message never contains the
            URL.
    """
    given_url, source = (
        (url, "the records URL") if url is not None else (os.environ.get(URL_VARIABLE, ""), URL_VARIABLE)
    )
    if not given_url and url is None:
        return URL.create("sqlite", database=str(find_default_file()))
    try:
        parsed = make_url(given_url)
    except (ArgumentError, ValueError):
        # The parser's own message may contain the URL with its password.
        raise RecordsError(f"{source} can't be read as a URL", hint=_URL_EXAMPLES) from None
    options = [
        value for values in parsed.query.values() for value in ((values,) if isinstance(values, str) else values)
    ]
    if not all(str(part).isprintable() for part in (given_url, *parsed.translate_connect_args().values(), *options)):
        raise RecordsError(f"{source} contains a character that can't be printed", hint=_URL_EXAMPLES)
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _normalize_sqlite_url(parsed, source)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return _normalize_postgresql_url(parsed, source)
        case other:
            raise RecordsError(f"{source} is of an unknown kind: {other!r}", hint=_URL_EXAMPLES)


def redact_url(url: URL) -> str:
    """Return the URL for messages, without the password and the options (they can contain passwords too)."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    bare = URL.create("postgresql", username=url.username, host=url.host, port=url.port, database=url.database)
    return bare.render_as_string()


def _normalize_postgresql_url(url: URL, source: str) -> URL:
    if not url.database:
        raise RecordsError(f"{source} names no database", hint=_URL_EXAMPLES)
    if "@" in url.database:  # a part of the password, which messages would show as the database's name
        raise RecordsError(
            f"{source} has an '@' after the name of its database",
            hint="In a password, write / as %2F, ? as %3F, @ as %40 and : as %3A; or keep it in ~/.pgpass.",
        )
    try:
        (url.host or "").encode("idna")
    except UnicodeError:
        raise RecordsError(f"{source} names a host that can't be", hint=_URL_EXAMPLES) from None
    return url.set(drivername="postgresql+psycopg")


def _normalize_sqlite_url(url: URL, source: str) -> URL:
    if url.host or url.username or url.password or url.port:
        raise RecordsError(f"{source} names a server, and SQLite has none", hint=_URL_EXAMPLES)
    name = url.database or ""
    if name in {"", ":memory:"} or name.startswith("file:"):
        raise RecordsError(
            f"{source} names no file: records kept in memory are lost with the process", hint=_URL_EXAMPLES
        )
    path = expand_home(Path(name), RecordsError).absolute()
    return url.set(drivername="sqlite", database=str(path), query={})
