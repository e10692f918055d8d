"""Plans what `fleetpatch server` starts: command, environment and reasons. `exec_server` starts it."""

import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from platformdirs import user_data_path

from deployments.server import encryption_key, settings
from deployments.server.connection_urls import (
    SQLITE_DRIVER,
    build_database_url,
    has_password,
    hide_password,
    is_loopback,
    require_redis_url,
)
from flows.prefect_api.server_settings import SettingTarget
from inventory.credentials import resolve_credential
from inventory.files.paths import expand_home, find_user_directory
from inventory.files.private_keys import find_key_path
from tasks.errors import CannotRun, RequestError

HIDDEN_VALUE = "(hidden)"
MIN_PASSWORD_CHARACTERS = 12
TLS_ADVICE = (
    "The API uses plain HTTP: others on the network can read passwords and plans. Keep the server on "
    "127.0.0.1, put a reverse proxy with a certificate before it (Caddy: `fleet.example.org { reverse_proxy "
    "127.0.0.1:4200 }`), and start with --public-url https://fleet.example.org. docs/how-to/server.md has nginx too."
)
_REDIS_PACKAGE_HINT = (
    "Install it beside fleetpatch: pip install --no-deps --require-hashes -r deployments/compose/redis.txt "
    "(everything else that it needs is there already)."
)
_AUTH_HINT = (
    "Set PREFECT_SERVER_API_AUTH_STRING=user:password in the environment (a unit's EnvironmentFile), or name it with "
    "--auth file:PATH. Everyone who talks to the server sets PREFECT_API_AUTH_STRING to the same."
)


class UnsafeServerOptions(RequestError):
    """The options would make the server insecure."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `fleetpatch server`. ``database``, ``redis`` and ``auth`` may be references: env:NAME or file:PATH.

    Attributes:
        public_url: the URL for browsers, if it differs from the address (behind a proxy).
        home: Prefect's folder; None: the value of the environment, or a folder in the user's data folder.
    """

    host: str = "127.0.0.1"
    port: int = 4200
    database: str | None = None
    redis: str | None = None
    home: Path | None = None
    public_url: str | None = None
    auth: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedSetting:
    """An environment variable of the plan. Its value is safe to show."""

    name: str
    value: str
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The command and environment of the server.

    Attributes:
        command: the program and its arguments, without secrets.
        environment: the complete environment, with secrets.
        planned_settings: the settings that matter here, safe to show.
        ui_url: URL of the UI.
        is_exposed: whether other machines can reach the server.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    planned_settings: tuple[PlannedSetting, ...]
    home: Path
    ui_url: str
    is_exposed: bool


def build_launch_plan(options: ServerOptions, environ: Mapping[str, str]) -> LaunchPlan:
    """Build the plan. It changes nothing. A value of the environment stays, unless an option replaces it.

    Raises:
        UnsafeServerOptions: other machines could reach the server without a password, or an argument contains a
            password.
        CredentialError: a reference can't be resolved.
        CannotRun: an address is invalid, or Redis is requested and Prefect's Redis package is not installed.
    """
    builder = _EnvironmentBuilder(environ)
    home = _find_home(options, environ)
    builder.set(settings.HOME_VARIABLE, str(home), "its database and logs are here")
    builder.set_default(
        settings.UI_DIRECTORY_VARIABLE,
        str(home / "ui"),
        "Prefect writes the UI's files here: the installation may be read-only",
    )
    _set_database(options, builder, home)
    if options.redis is not None:
        _set_redis(options.redis, builder)
    ui, exposed = _set_urls(options, builder)
    _set_auth(options, builder, exposed=exposed)
    _set_encryption_key(builder)
    for each in settings.PREFECT_SETTINGS:
        if each.target in {SettingTarget.SERVER, SettingTarget.BOTH}:
            builder.set_default(each.name, each.value, each.reason)
    program = (sys.executable, "-m", "prefect", "--no-prompt", "server", "start")
    listen_arguments = ("--host", options.host, "--port", str(options.port))
    return LaunchPlan(
        (*program, *listen_arguments), builder.environment, tuple(builder.planned_settings), home, ui, exposed
    )


def exec_server(plan: LaunchPlan) -> NoReturn:
    """Replace this process with the server, so that signals and exit code are those of the server.

    Raises:
        CannotRun: the home directory can't be created or written, or Prefect's database can't be read.
        KeyFileError: the key of Prefect's secrets can't be read or made, or others than its owner can read it.
    """
    _create_home_directory(plan)
    key = encryption_key.prepare_encryption(plan.environment[settings.DATABASE_URL_VARIABLE], plan.environment)
    environment = {**plan.environment, encryption_key.KEY_VARIABLE: key}
    sys.stdout.flush()
    sys.stderr.flush()
    os.umask(0o077)  # the database has reports and encrypted secrets
    os.execve(plan.command[0], plan.command, environment)  # noqa: S606 - no shell; our own interpreter


def _create_home_directory(plan: LaunchPlan) -> None:
    """Create the home directory of the server. Only its owner can read it.

    Raises:
        CannotRun: the directory can't be created or written.
    """
    try:
        plan.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"{plan.home} can't be made: {error.strerror}", hint="Name another folder with --home."
        ) from error
    if not os.access(plan.home, os.W_OK | os.X_OK):
        raise CannotRun(f"{plan.home} can't be written by this user", hint="Name another folder with --home.")


class _EnvironmentBuilder:
    """An environment that records each change and its reason."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environment = dict(environ)
        self.planned_settings: list[PlannedSetting] = []

    def set(self, name: str, value: str, why: str, source: str = "worked out") -> None:
        """Set a variable. Replace its value if it has one."""
        self.environment[name] = value
        self.planned_settings.append(PlannedSetting(name, _hide_secret(name, value), source, why))

    def set_default(self, name: str, value: str, why: str) -> None:
        """Set a variable if it is not set."""
        source = "environment" if name in self.environment else "fleetpatch"
        self.set(name, self.environment.get(name, value), why, source)

    def remove(self, name: str) -> str | None:
        """Remove a variable and return its value."""
        return self.environment.pop(name, None) or None


def _hide_secret(name: str, value: str) -> str:
    if name not in settings.SECRET_VARIABLES:
        return value
    return hide_password(value) if "://" in value else HIDDEN_VALUE


def _find_home(options: ServerOptions, environ: Mapping[str, str]) -> Path:
    if options.home is not None:
        return expand_home(options.home, CannotRun).absolute()
    if given := environ.get(settings.HOME_VARIABLE):
        return expand_home(Path(given), CannotRun).absolute()
    return find_user_directory(user_data_path, CannotRun, "name Prefect's folder with --home") / "prefect"


def _resolve_option(given: str, option: str) -> str:
    """Return the value of an option. Resolve it if it is a reference.

    Raises:
        UnsafeServerOptions: the option contains a password. Every user of the machine can see it in the process list.
    """
    if given.startswith(("env:", "file:")):
        secret = resolve_credential(given).secret
        assert secret is not None  # noqa: S101 - for the type checker: env: and file: are passwords
        return secret.reveal().strip()
    if has_password(given):
        raise UnsafeServerOptions(
            f"{option} contains a password, and every user of this machine can read the arguments of programs",
            hint=f"Put the whole URL into a variable or a file of mode 0600, and give {option} env:NAME or file:PATH. "
            "For PostgreSQL, ~/.pgpass works too.",
        )
    return given


def _set_database(options: ServerOptions, builder: _EnvironmentBuilder, home: Path) -> None:
    old, new = builder.remove(settings.LEGACY_DATABASE_URL_VARIABLE), builder.remove(settings.DATABASE_URL_VARIABLE)
    if options.database is not None:
        url, source = build_database_url(_resolve_option(options.database, "--database"), "--database"), "--database"
    elif given := new or old:
        name = settings.DATABASE_URL_VARIABLE if new else settings.LEGACY_DATABASE_URL_VARIABLE
        url, source = build_database_url(given, name), "environment"
    else:
        url, source = f"{SQLITE_DRIVER}:///{home / 'prefect.db'}", "worked out"
    builder.set(settings.DATABASE_URL_VARIABLE, url, "SQLite is for one machine; use PostgreSQL otherwise", source)
    builder.set(
        settings.DATABASE_DRIVER_VARIABLE,
        url.partition(":")[0],
        "`doctor --server` reads the kind of database here",
        source,
    )


def _set_redis(given: str, builder: _EnvironmentBuilder) -> None:
    if importlib.util.find_spec("prefect_redis") is None:
        raise CannotRun("Redis needs the package prefect-redis, which is not installed", hint=_REDIS_PACKAGE_HINT)
    url = require_redis_url(_resolve_option(given, "--redis"), "--redis")
    for name in (settings.REDIS_URL_VARIABLE, settings.DOCKET_URL_VARIABLE):
        builder.set(name, url, "events and leases outlive the server's process", "--redis")
    for name, value in settings.REDIS_SETTINGS.items():
        builder.set_default(name, value, "by Redis")


def _set_urls(options: ServerOptions, builder: _EnvironmentBuilder) -> tuple[str, bool]:
    """Set the URLs of API and UI. Return the UI's URL, and whether other machines can reach the server."""
    public = (options.public_url or "").rstrip("/")
    if public and (urlsplit(public).scheme not in {"http", "https"} or not urlsplit(public).hostname):
        raise UnsafeServerOptions(
            f"--public-url {public} is no web address", hint="For example: https://fleet.example.org"
        )
    own = f"http://{_to_url_host(options.host)}:{options.port}"
    ui = public or own
    builder.set_default(settings.UI_URL_VARIABLE, ui, "links in messages point here")
    builder.set_default(settings.UI_API_URL_VARIABLE, f"{ui}/api", "where a browser finds the API")
    origins = {ui, own} | ({f"http://localhost:{options.port}"} if is_loopback(options.host) else set())
    builder.set_default(
        settings.ALLOWED_ORIGINS_VARIABLE,
        ",".join(sorted(origins)),
        "other web pages can't read the API through your browser",
    )
    exposed = not is_loopback(options.host) or (bool(public) and not is_loopback(urlsplit(public).hostname or ""))
    return builder.environment[settings.UI_URL_VARIABLE], exposed


def _set_auth(options: ServerOptions, builder: _EnvironmentBuilder, *, exposed: bool) -> None:
    if options.auth is not None:
        if not options.auth.startswith(("env:", "file:")):
            raise UnsafeServerOptions(
                "--auth is no reference: an argument must not contain a password", hint=_AUTH_HINT
            )
        builder.set(settings.AUTH_VARIABLE, _resolve_option(options.auth, "--auth"), "every client needs it", "--auth")
    elif settings.AUTH_VARIABLE in builder.environment:
        builder.set(
            settings.AUTH_VARIABLE,
            builder.environment[settings.AUTH_VARIABLE].strip(),
            "every client needs it",
            "environment",
        )
    auth = builder.environment.get(settings.AUTH_VARIABLE, "")
    if not auth and not exposed:
        builder.remove(settings.AUTH_VARIABLE)  # with an empty value, Prefect would ask for an empty password
        return
    if not auth:
        raise UnsafeServerOptions(
            f"there is no password: everyone who reaches {options.host}:{options.port} could reboot the fleet",
            hint=f"{_AUTH_HINT} {TLS_ADVICE}",
        )
    user, colon, password = auth.partition(":")
    if not user or not colon or len(password) < (MIN_PASSWORD_CHARACTERS if exposed else 1):
        raise UnsafeServerOptions(
            f"the server's password is not of the form user:password with {MIN_PASSWORD_CHARACTERS} characters or more",
            hint="For example: PREFECT_SERVER_API_AUTH_STRING=fleet:$(openssl rand -hex 24)",
        )


def _set_encryption_key(builder: _EnvironmentBuilder) -> None:
    """Name the key of Prefect's secrets. The start reads or makes it."""
    name, reason = encryption_key.KEY_VARIABLE, "encrypts Secret blocks: a file, not in the database that it protects"
    if name in builder.environment:
        builder.set_default(name, "", reason)
    else:
        path = str(find_key_path(encryption_key.KEY_NAME))
        builder.planned_settings.append(PlannedSetting(name, HIDDEN_VALUE, path, reason))


def _to_url_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:  # a browser can't open this address
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
