"""A connection to the database of Prefect's server, for what has to be done there before the server starts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from tasks.domain.errors import CannotRun
from tasks.records.storage.database import LIBPQ_TIMEOUTS

_TLS: Final = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_"
_TLS_FILES: Final = {"CA_FILE": "sslrootcert", "CERT_FILE": "sslcert", "KEY_FILE": "sslkey"}


@contextmanager
def connect_database(database_url: str, environ: Mapping[str, str]) -> Iterator[sa.Connection | None]:
    """Give a connection to the server's database, in a transaction; None if its file has yet to be made.

    ``database_url`` is in the form of SQLAlchemy, and ``environ`` has Prefect's settings of TLS.

    Raises:
        CannotRun: the database can't be read.
    """
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        yield None
        return
    engine = build_engine(url, environ)
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise CannotRun(
            f"Prefect's database can't be read, so its secrets can't be checked: {type(error).__name__}",
            hint="Is the database running, and may this user write to it? `fleetpatch server --show` names it.",
        ) from error
    finally:
        engine.dispose()


def build_engine(url: sa.URL, environ: Mapping[str, str]) -> sa.Engine:
    """Return an engine for the database of the server. Its drivers are not asynchronous."""
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(url.set(drivername="sqlite"), connect_args={"timeout": 30})
    arguments: dict[str, Any] = dict(LIBPQ_TIMEOUTS)
    if mode := url.query.get("ssl"):
        arguments["sslmode"] = mode
    if environ.get(f"{_TLS}ENABLED", "").lower() in {"1", "true"}:
        arguments["sslmode"] = "verify-full"
        arguments |= {name: environ[_TLS + file] for file, name in _TLS_FILES.items() if environ.get(_TLS + file)}
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["ssl"]), connect_args=arguments
    )
