"""What `fleetpatch server` would start: its words, its environment and why. Starts nothing, and changes nothing."""

import importlib.util
import ipaddress
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_data_path

from deployments.server import settings
from deployments.server.address import SQLITE, database_url, has_password, redis_url, without_password
from deployments.server.loopback import is_loopback
from flows.cli.exits import CannotRun
from flows.server_settings import Part
from inventory.credentials import resolve
from inventory.places import own_folder, with_home
from tasks.errors import RequestError

HIDDEN = "(hidden)"
LEAST_PASSWORD = 12
TLS_ADVICE = (
    "The API speaks plain HTTP: on a network, passwords and plans can be read on the way. Let the server stay on "
    "127.0.0.1, put a reverse proxy with a certificate before it (Caddy: `fleet.example.org { reverse_proxy "
    "127.0.0.1:4200 }`), and start with --public-url https://fleet.example.org. docs/server.md has nginx as well."
)
_NO_EXTRA = (
    "Install it beside fleetpatch: pip install --no-deps --require-hashes -r deployments/compose/redis.txt "
    "(everything else that it needs is there already)."
)
_AUTH_HINT = (
    "Set PREFECT_SERVER_API_AUTH_STRING=user:password in the environment (a unit's EnvironmentFile), or name it with "
    "--auth file:PATH. Everyone who talks to the server sets PREFECT_API_AUTH_STRING to the same."
)


class Refused(RequestError):
    """The server would be open to others as it was asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. ``database``, ``redis`` and ``auth`` may be references: env:NAME or file:PATH.

    Attributes:
        public_url: what people write into their browser, when that is another address: of a proxy.
        home: Prefect's folder; None: the environment's, or one in the user's data folder.
    """

    host: str = "127.0.0.1"
    port: int = 4200
    database: str | None = None
    redis: str | None = None
    home: Path | None = None
    public_url: str | None = None
    auth: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A variable as it would be, safe to show."""

    name: str
    value: str
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be started.

    Attributes:
        words: the program and its arguments; no secret is in them.
        environment: whole; secrets and all.
        rows: the part of it that matters here, safe to show.
        ui: where the UI is.
        exposed: whether others than this machine reach it.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    rows: tuple[Row, ...]
    home: Path
    ui: str
    exposed: bool


def make_plan(wanted: Wanted, environ: Mapping[str, str]) -> Plan:
    """Work out what to start. What the environment says stands, unless an option says otherwise.

    Raises:
        Refused: it would be open to others without a password, or a password was given as an argument.
        CredentialError: a reference leads nowhere.
        CannotRun: an address can't be used, or Redis was asked for and its part of Prefect is not installed.
    """
    told = _Told(environ)
    home = _home(wanted, environ)
    told.set(settings.HOME, str(home), "its database, key and logs are here")
    told.offer(
        settings.UI_FILES, str(home / "ui"), "the UI's files are unpacked here: the installation may be read-only"
    )
    _database(wanted, told, home)
    if wanted.redis is not None:
        _redis(wanted.redis, told)
    ui, exposed = _where(wanted, told)
    _auth(wanted, told, exposed=exposed)
    for each in settings.TABLE:
        if each.part in {Part.SERVER, Part.BOTH}:
            told.offer(each.name, each.value, each.why)
    words = (sys.executable, "-m", "prefect", "--no-prompt", "server", "start")
    where = ("--host", wanted.host, "--port", str(wanted.port))
    return Plan((*words, *where), told.environment, tuple(told.rows), home, ui, exposed)


class _Told:
    """An environment that remembers what was said about it, and why."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environment = dict(environ)
        self.rows: list[Row] = []

    def set(self, name: str, value: str, why: str, source: str = "worked out") -> None:
        """Set a variable, whatever it was."""
        self.environment[name] = value
        self.rows.append(Row(name, _shown(name, value), source, why))

    def offer(self, name: str, value: str, why: str) -> None:
        """Set a variable unless the environment has it."""
        source = "environment" if name in self.environment else "fleetpatch"
        self.set(name, self.environment.get(name, value), why, source)

    def drop(self, name: str) -> str | None:
        """Forget a variable. Returns what it was."""
        return self.environment.pop(name, None) or None


def _shown(name: str, value: str) -> str:
    if name not in settings.SECRET:
        return value
    return without_password(value) if "://" in value else HIDDEN


def _home(wanted: Wanted, environ: Mapping[str, str]) -> Path:
    if wanted.home is not None:
        return with_home(wanted.home, CannotRun).absolute()
    if given := environ.get(settings.HOME):
        return with_home(Path(given), CannotRun).absolute()
    return own_folder(user_data_path, CannotRun, "name Prefect's folder with --home") / "prefect"


def _given(given: str, option: str) -> str:
    """Return what an option stands for: itself, or what its reference leads to.

    Raises:
        Refused: it carries a password, which everybody on the machine sees in the list of processes.
    """
    if given.startswith(("env:", "file:")):
        secret = resolve(given).secret
        assert secret is not None  # noqa: S101 - for the type checker: env: and file: are passwords
        return secret.reveal().strip()
    if has_password(given):
        raise Refused(
            f"{option} carries a password, and everybody on this machine can read the arguments of its programs",
            hint=f"Put the whole URL into a variable or a file of mode 0600, and say {option} env:NAME or file:PATH; "
            "for PostgreSQL, ~/.pgpass will do as well.",
        )
    return given


def _database(wanted: Wanted, told: _Told, home: Path) -> None:
    old, new = told.drop(settings.DATABASE_OLD), told.drop(settings.DATABASE)
    if wanted.database is not None:
        url, source = database_url(_given(wanted.database, "--database"), "--database"), "--database"
    elif given := new or old:
        name = settings.DATABASE if new else settings.DATABASE_OLD
        url, source = database_url(given, name), "environment"
    else:
        url, source = f"{SQLITE}:///{home / 'prefect.db'}", "worked out"
    told.set(settings.DATABASE, url, "SQLite does for one person's machine; PostgreSQL for all else", source)
    told.set(settings.DATABASE_DRIVER, url.partition(":")[0], "so that `doctor --server` can read its kind", source)


def _redis(given: str, told: _Told) -> None:
    if importlib.util.find_spec("prefect_redis") is None:
        raise CannotRun("Redis needs the package prefect-redis, which is not installed", hint=_NO_EXTRA)
    url = redis_url(_given(given, "--redis"), "--redis")
    for name in (settings.REDIS_URL, settings.DOCKET_URL):
        told.set(name, url, "events and leases outlive the server's process", "--redis")
    for name, value in settings.REDIS.items():
        told.offer(name, value, "by Redis")


def _where(wanted: Wanted, told: _Told) -> tuple[str, bool]:
    """Say where the UI is found. Returns that, and whether others than this machine reach it."""
    public = (wanted.public_url or "").rstrip("/")
    if public and (urlsplit(public).scheme not in {"http", "https"} or not urlsplit(public).hostname):
        raise Refused(f"--public-url {public} is no web address", hint="For example: https://fleet.example.org")
    own = f"http://{_in_url(wanted.host)}:{wanted.port}"
    ui = public or own
    told.offer(settings.UI, ui, "links in messages lead here")
    told.offer(settings.UI_API, f"{ui}/api", "where a browser finds the API")
    origins = {ui, own} | ({f"http://localhost:{wanted.port}"} if is_loopback(wanted.host) else set())
    told.offer(settings.ORIGINS, ",".join(sorted(origins)), "other web pages may not read the API by your browser")
    exposed = not is_loopback(wanted.host) or (bool(public) and not is_loopback(urlsplit(public).hostname or ""))
    return told.environment[settings.UI], exposed


def _auth(wanted: Wanted, told: _Told, *, exposed: bool) -> None:
    if wanted.auth is not None:
        if not wanted.auth.startswith(("env:", "file:")):
            raise Refused("--auth is no reference: a password never stands in an argument", hint=_AUTH_HINT)
        told.set(settings.AUTH, _given(wanted.auth, "--auth"), "who asks has to know it", "--auth")
    elif settings.AUTH in told.environment:
        told.set(settings.AUTH, told.environment[settings.AUTH].strip(), "who asks has to know it", "environment")
    auth = told.environment.get(settings.AUTH, "")
    if not auth and not exposed:
        told.drop(settings.AUTH)  # set and empty, Prefect would ask for an empty password
        return
    if not auth:
        raise Refused(
            f"whoever reaches {wanted.host}:{wanted.port} could patch and reboot the fleet: there is no password",
            hint=f"{_AUTH_HINT} {TLS_ADVICE}",
        )
    user, colon, password = auth.partition(":")
    if not user or not colon or len(password) < (LEAST_PASSWORD if exposed else 1):
        raise Refused(
            f"the server's password is not of the form user:password with {LEAST_PASSWORD} characters or more",
            hint="For example: PREFECT_SERVER_API_AUTH_STRING=fleet:$(openssl rand -hex 24)",
        )


def _in_url(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:  # no browser can go there
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
