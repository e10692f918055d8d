"""Databases and Redis as people write them, in Prefect's spelling; and both without their secrets. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from flows.cli.exits import CannotRun
from inventory.places import with_home

SQLITE: Final = "sqlite+aiosqlite"
POSTGRESQL: Final = "postgresql+asyncpg"
_DRIVERS: Mapping[str, str] = {
    "postgresql": POSTGRESQL,
    "postgres": POSTGRESQL,
    "postgresql+psycopg": POSTGRESQL,
    POSTGRESQL: POSTGRESQL,
    "sqlite": SQLITE,
    "sqlite+pysqlite": SQLITE,
    SQLITE: SQLITE,
}
_OPTIONS: Mapping[str, str] = {"host": "host", "port": "port", "sslmode": "ssl", "ssl": "ssl"}
_REDIS = frozenset({"redis", "rediss", "redis+sentinel", "rediss+sentinel"})
_EXAMPLES = (
    "Examples: postgresql://prefect@db.example.org/prefect (password in ~/.pgpass), "
    "sqlite:////var/lib/fleetpatch/prefect.db (four slashes: an absolute path)."
)
_TLS = (
    "Options that are understood: host, port, sslmode. A CA file of your own goes into "
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED=true and …_TLS_CA_FILE."
)


class BadAddress(CannotRun):
    """A database or Redis URL that can't be used. The message never shows the URL itself."""


def database_url(given: str, source: str) -> str:
    """Return a database URL as Prefect wants it.

    Args:
        given: as PostgreSQL's own programs take it, or ``sqlite:///path``; Prefect's spelling stays as it is.
        source: where it was given, for the message.

    Raises:
        BadAddress: it can't be used.
    """
    parts = _split(given, source, _EXAMPLES)
    driver = _DRIVERS.get(parts.scheme)
    if driver is None:
        raise BadAddress(f"{source} is of an unknown kind: {parts.scheme!r}", hint=_EXAMPLES)
    if driver == SQLITE:
        return _file(given.split(":", 1)[1], source)
    if not parts.path.strip("/"):
        raise BadAddress(f"{source} names no database", hint=_EXAMPLES)
    options = parse_qsl(parts.query, keep_blank_values=True)
    if unknown := sorted({name for name, _ in options if name not in _OPTIONS}):
        raise BadAddress(f"{source} has options that Prefect's driver can't use: {', '.join(unknown)}", hint=_TLS)
    query = urlencode([(_OPTIONS[name], value) for name, value in options], safe="/:", quote_via=quote)
    return f"{driver}://{parts.netloc}{parts.path}{'?' if query else ''}{query}"


def redis_url(given: str, source: str) -> str:
    """Return a Redis URL, checked.

    Raises:
        BadAddress: it can't be used.
    """
    example = "Example: redis://redis.example.org:6379/0; rediss:// speaks TLS."
    if _split(given, source, example).scheme not in _REDIS:
        raise BadAddress(f"{source} is no Redis URL", hint=example)
    return given


def has_password(url: str) -> bool:
    """Return whether a URL carries a password; one that can't be read may."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return bool(parts.password) or any("password" in name.lower() for name, _ in parse_qsl(parts.query))


def without_password(url: str) -> str:
    """Return a URL for people: its password is stars, its options are left out."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    user = f"{parts.username or ''}{':***' if parts.password else ''}"
    place = f"{user}@{parts.hostname or ''}{port}" if user else f"{parts.hostname or ''}{port}"
    return f"{parts.scheme}://{place}{parts.path}"


def _split(given: str, source: str, hint: str) -> SplitResult:
    try:
        parts = urlsplit(given)
        _ = parts.port
    except ValueError:
        raise BadAddress(f"{source} can't be read as a URL", hint=hint) from None
    if "://" not in given or any(ord(character) < 33 for character in given):
        raise BadAddress(f"{source} can't be read as a URL", hint=hint)
    return parts


def _file(rest: str, source: str) -> str:
    path, _, options = rest.removeprefix("///").partition("?")
    if not rest.startswith("///") or not path or options or ":memory:" in path:
        raise BadAddress(f"{source} names no file: a server that forgets everything is of no use", hint=_EXAMPLES)
    return f"{SQLITE}:///{with_home(Path(path), BadAddress).absolute()}"
