"""Converts database and Redis URLs into Prefect's form, hides their passwords, and knows loopback hosts. No I/O."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from inventory.files.paths import expand_home
from tasks.domain.errors import CannotRun

SQLITE_DRIVER: Final = "sqlite+aiosqlite"
POSTGRESQL_DRIVER: Final = "postgresql+asyncpg"
_DRIVERS: Mapping[str, str] = {
    "postgresql": POSTGRESQL_DRIVER,
    "postgres": POSTGRESQL_DRIVER,
    "postgresql+psycopg": POSTGRESQL_DRIVER,
    POSTGRESQL_DRIVER: POSTGRESQL_DRIVER,
    "sqlite": SQLITE_DRIVER,
    "sqlite+pysqlite": SQLITE_DRIVER,
    SQLITE_DRIVER: SQLITE_DRIVER,
}
_DRIVER_OPTIONS: Mapping[str, str] = {"host": "host", "port": "port", "sslmode": "ssl", "ssl": "ssl"}
_REDIS_SCHEMES = frozenset({"redis", "rediss", "redis+sentinel", "rediss+sentinel"})
_DATABASE_URL_HINT = (
    "Examples: postgresql://prefect@db.example.org/prefect (password in ~/.pgpass), "
    "sqlite:////var/lib/fleetpatch/prefect.db (four slashes: an absolute path)."
)
_DATABASE_OPTIONS_HINT = (
    "Options that are understood: host, port, sslmode. A CA file of your own goes into "
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED=true and …_TLS_CA_FILE."
)


class InvalidConnectionUrl(CannotRun):
    """A database or Redis URL is invalid. The message never shows the URL."""


def build_database_url(given: str, source: str) -> str:
    """Return a database URL in Prefect's form.

    Args:
        given: a URL in PostgreSQL's usual form, or ``sqlite:///path``. A URL in Prefect's form stays as it is.
        source: where the URL was given, for the message.

    Raises:
        InvalidConnectionUrl: the URL can't be used.
    """
    parts = _split_url(given, source, _DATABASE_URL_HINT)
    driver = _DRIVERS.get(parts.scheme)
    if driver is None:
        raise InvalidConnectionUrl(f"{source} is of an unknown kind: {parts.scheme!r}", hint=_DATABASE_URL_HINT)
    if driver == SQLITE_DRIVER:
        path_part = given.split(":", 1)[1]
        path, _, file_options = path_part.removeprefix("///").partition("?")
        if not path_part.startswith("///") or not path or file_options or ":memory:" in path:
            raise InvalidConnectionUrl(
                f"{source} names no file: the server would lose all data", hint=_DATABASE_URL_HINT
            )
        return f"{SQLITE_DRIVER}:///{expand_home(Path(path), InvalidConnectionUrl).absolute()}"
    if not parts.path.strip("/"):
        raise InvalidConnectionUrl(f"{source} names no database", hint=_DATABASE_URL_HINT)
    options = parse_qsl(parts.query, keep_blank_values=True)
    if unknown := sorted({name for name, _ in options if name not in _DRIVER_OPTIONS}):
        raise InvalidConnectionUrl(
            f"{source} has options that Prefect's driver can't use: {', '.join(unknown)}", hint=_DATABASE_OPTIONS_HINT
        )
    query = urlencode([(_DRIVER_OPTIONS[name], value) for name, value in options], safe="/:", quote_via=quote)
    return f"{driver}://{parts.netloc}{parts.path}{'?' if query else ''}{query}"


def require_redis_url(given: str, source: str) -> str:
    """Return a Redis URL after a check. Raise InvalidConnectionUrl if the URL can't be used."""
    example = "Example: redis://redis.example.org:6379/0; rediss:// speaks TLS."
    if _split_url(given, source, example).scheme not in _REDIS_SCHEMES:
        raise InvalidConnectionUrl(f"{source} is no Redis URL", hint=example)
    return given


def has_password(url: str) -> bool:
    """Return whether a URL contains a password. If the URL can't be parsed, return True."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return bool(parts.password) or any("password" in name.lower() for name, _ in parse_qsl(parts.query))


def hide_password(url: str) -> str:
    """Return a URL for people: stars replace its password, and its options are removed."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    user = f"{parts.username or ''}{':***' if parts.password else ''}"
    host = f"{user}@{parts.hostname or ''}{port}" if user else f"{parts.hostname or ''}{port}"
    return f"{parts.scheme}://{host}{parts.path}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. Names except localhost return False: they may change later."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _split_url(given: str, source: str, hint: str) -> SplitResult:
    try:
        parts = urlsplit(given)
        _ = parts.port
    except ValueError:
        raise InvalidConnectionUrl(f"{source} can't be read as a URL", hint=hint) from None
    if "://" not in given or any(ord(character) < 33 for character in given):
        raise InvalidConnectionUrl(f"{source} can't be read as a URL", hint=hint)
    return parts
