"""Plans what `fleetpatch server` starts: command, environment and reasons. `exec_server` starts it."""

import importlib.util
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from platformdirs import user_data_path

from deployments.server import settings
from deployments.server.connection_urls import (
    SQLITE_DRIVER,
    build_database_url,
    has_password,
    hide_password,
    is_loopback,
    require_redis_url,
)
from flows.prefect_api import encryption_key
from flows.prefect_api.port_listeners import HOSTS_VARIABLE, LOOPBACK_HOSTS, build_server_command, open_listener
from flows.prefect_api.server_login import ensure_login, find_login_path
from flows.prefect_api.server_settings import (
    ALLOWED_ORIGINS_VARIABLE,
    GUARD_SETTINGS,
    SettingTarget,
    names_all_origins,
    require_trusted_settings,
)
from inventory.credentials import resolve_own_secret
from inventory.data_class import dataclass
from inventory.files.own_keys import find_key_path
from inventory.files.paths import ensure_private_directory, expand_home, find_user_directory
from tasks.domain.errors import CannotRun, RequestError

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
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
"""What Prefect takes for true (pydantic)."""
_HOST_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


class UnsafeServerOptions(RequestError):
    """The options would make the server insecure."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `fleetpatch server`. ``database``, ``redis`` and ``auth`` may be references."""

    host: str = "127.0.0.1"
    port: int = 4200
    database: str | None = None
    redis: str | None = None
    # Prefect's folder; None: the value of the environment, or a folder in the user's data folder.
    home: Path | None = None
    public_url: str | None = None  # the URL for browsers, if it differs from the address (behind a proxy)
    # The password; None: the value of the environment, or the password that the first start makes.
    auth: str | None = None
    allowed_hosts: tuple[str, ...] = ()  # further names by which the server may be asked


@dataclass(frozen=True, slots=True)
class PlannedSetting:
    """An environment variable of the plan. Its value is safe to show."""

    name: str
    value: str
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """The address and environment of the server."""

    host: str
    port: int
    environment: Mapping[str, str] = field(repr=False)  # the complete environment, with secrets
    # The file of its password, which the first start makes; None: the password is in the environment.
    login_path: Path | None
    planned_settings: tuple[PlannedSetting, ...]  # the settings that matter here, safe to show
    home: Path
    ui_url: str
    is_exposed: bool  # whether other machines can reach the server


def build_launch_plan(options: ServerOptions, environ: Mapping[str, str]) -> LaunchPlan:
    """Build the plan. It changes nothing. A value of the environment stays, unless an option replaces it.

    Raises:
        UnsafeServerOptions: an argument contains a password, or the password is weak, or a name or a URL is not one, or
            the environment lets other web pages use the server.
        CredentialError: a reference can't be resolved.
        KeyFileError: the folder of keys is not known.
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
        if importlib.util.find_spec("prefect_redis") is None:
            raise CannotRun("Redis needs the package prefect-redis, which is not installed", hint=_REDIS_PACKAGE_HINT)
        url = require_redis_url(_resolve_option(options.redis, "--redis"), "--redis")
        for name in (settings.REDIS_URL_VARIABLE, settings.DOCKET_URL_VARIABLE):
            builder.set(name, url, "events and leases outlive the server's process", "--redis")
        for name, value in settings.REDIS_SETTINGS.items():
            builder.set_default(name, value, "by Redis")
    ui, exposed = _set_urls(options, builder)
    _set_hosts(options, builder)
    login_path = _set_auth(options, builder)
    _set_encryption_key(builder)
    _require_guards(builder.environment)
    for setting in settings.PREFECT_SETTINGS:
        if setting in GUARD_SETTINGS:
            builder.set(setting.name, setting.value, setting.reason, "fleetpatch")
        elif setting.target in {SettingTarget.SERVER, SettingTarget.BOTH}:
            builder.set_default(setting.name, setting.value, setting.reason)
    return LaunchPlan(
        host=options.host,
        port=options.port,
        environment=builder.environment,
        login_path=login_path,
        planned_settings=tuple(builder.planned_settings),
        home=home,
        ui_url=ui,
        is_exposed=exposed,
    )


def exec_server(plan: LaunchPlan, announce: Callable[[LaunchPlan], None]) -> NoReturn:
    """Replace this process with the server, so that signals and exit code are those of the server.

    ``announce`` tells the user where it is; it is called when nothing prevents the start any more.

    Raises:
        CannotRun: the home directory can't be created or written, nothing can listen on the address, or Prefect's
            database can't be read.
        KeyFileError: the password or the key of Prefect's secrets can't be read or made, or others than its owner can
            read it.
        UntrustedFile: somebody else may have written settings that the server would read.
    """
    try:
        ensure_private_directory(plan.home)
    except OSError as error:
        raise CannotRun(
            f"{plan.home} can't be made: {error.strerror}", hint="Name another folder with --home."
        ) from error
    if not os.access(plan.home, os.W_OK | os.X_OK):
        raise CannotRun(f"{plan.home} can't be written by this user", hint="Name another folder with --home.")
    require_trusted_settings(plan.environment)
    listener = open_listener(plan.host, plan.port)
    listener.set_inheritable(True)
    environment = dict(plan.environment)
    if plan.login_path is not None:
        environment[settings.AUTH_VARIABLE] = ensure_login()
    environment[encryption_key.KEY_VARIABLE] = encryption_key.prepare_encryption(
        plan.environment[settings.DATABASE_URL_VARIABLE], plan.environment
    )
    command = build_server_command(listener)
    announce(plan)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - no shell; our own interpreter


class _EnvironmentBuilder:
    """An environment that records each change and its reason."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environment = dict(environ)
        for name, second in settings.SECOND_NAMES.items():
            if (value := self.remove(second)) is not None:
                self.environment.setdefault(name, value)
        self.planned_settings: list[PlannedSetting] = []

    def set(self, name: str, value: str, why: str, source: str = "worked out") -> None:
        """Set a variable. Replace its value if it has one."""
        self.environment[name] = value
        if name in settings.SECRET_VARIABLES:
            value = hide_password(value) if "://" in value else HIDDEN_VALUE
        self.plan(name, value, source, why)

    def plan(self, name: str, value: str, source: str, why: str) -> None:
        """Record a variable whose value is safe to show. Do not set it."""
        self.planned_settings.append(PlannedSetting(name, value, source, why))

    def set_default(self, name: str, value: str, why: str) -> None:
        """Set a variable if it is not set."""
        source = "environment" if name in self.environment else "fleetpatch"
        self.set(name, self.environment.get(name, value), why, source)

    def remove(self, name: str) -> str | None:
        """Remove a variable and return its value."""
        return self.environment.pop(name, None) or None


def _find_home(options: ServerOptions, environ: Mapping[str, str]) -> Path:
    if options.home is not None:
        return expand_home(options.home, CannotRun).absolute()
    if given_home := environ.get(settings.HOME_VARIABLE):
        return expand_home(Path(given_home), CannotRun).absolute()
    return find_user_directory(user_data_path, CannotRun, "name Prefect's folder with --home") / "prefect"


def _resolve_option(given: str, option: str) -> str:
    """Return the value of an option. Resolve it if it is a reference.

    Raises:
        UnsafeServerOptions: the option contains a password. Every user of the machine can see it in the process list.
    """
    if given.startswith(("env:", "file:", "systemd:")):
        return resolve_own_secret(given).reveal().strip()
    if has_password(given):
        raise UnsafeServerOptions(
            f"{option} contains a password, and every user of this machine can read the arguments of programs",
            hint="Put the whole URL into a variable or a file of mode 0600, and give "
            f"{option} env:NAME, file:PATH or systemd:NAME. For PostgreSQL, ~/.pgpass works too.",
        )
    return given


def _set_database(options: ServerOptions, builder: _EnvironmentBuilder, home: Path) -> None:
    old, new = builder.remove(settings.LEGACY_DATABASE_URL_VARIABLE), builder.remove(settings.DATABASE_URL_VARIABLE)
    if options.database is not None:
        url, source = build_database_url(_resolve_option(options.database, "--database"), "--database"), "--database"
    elif given_value := new or old:
        name = settings.DATABASE_URL_VARIABLE if new else settings.LEGACY_DATABASE_URL_VARIABLE
        url, source = build_database_url(given_value, name), "environment"
    else:
        url, source = f"{SQLITE_DRIVER}:///{home / 'prefect.db'}", "worked out"
    builder.set(settings.DATABASE_URL_VARIABLE, url, "SQLite is for one machine; use PostgreSQL otherwise", source)
    builder.set(
        settings.DATABASE_DRIVER_VARIABLE,
        url.partition(":")[0],
        "`doctor --server` reads the kind of database here",
        source,
    )


def _set_urls(options: ServerOptions, builder: _EnvironmentBuilder) -> tuple[str, bool]:
    """Set the URLs of API and UI. Return the UI's URL, and whether other machines can reach the server."""
    public = (options.public_url or "").rstrip("/")
    if public and (urlsplit(public).scheme not in {"http", "https"} or not urlsplit(public).hostname):
        raise UnsafeServerOptions(
            f"--public-url {public} is no web address", hint="For example: https://fleet.example.org"
        )
    own_url = f"http://{_to_url_host(options.host)}:{options.port}"
    ui = public or own_url
    builder.set_default(settings.UI_URL_VARIABLE, ui, "links in messages point here")
    builder.set_default(settings.UI_API_URL_VARIABLE, f"{ui}/api", "where a browser finds the API")
    origins = {ui, own_url} | ({f"http://localhost:{options.port}"} if is_loopback(options.host) else set())
    builder.set_default(
        ALLOWED_ORIGINS_VARIABLE, ",".join(sorted(origins)), "other web pages can't read the API through your browser"
    )
    exposed = not is_loopback(options.host) or (bool(public) and not is_loopback(urlsplit(public).hostname or ""))
    return builder.environment[settings.UI_URL_VARIABLE], exposed


def _set_hosts(options: ServerOptions, builder: _EnvironmentBuilder) -> None:
    """Set the names by which the server may be asked: loopback, its own, its public ones, and further ones."""
    urls = [builder.environment[name] for name in (settings.UI_URL_VARIABLE, settings.UI_API_URL_VARIABLE)]
    names = [options.host, *(urlsplit(url).hostname for url in urls), *options.allowed_hosts]
    hosts = list(dict.fromkeys((*LOOPBACK_HOSTS, *(_to_url_host(name) for name in names if name))))
    for host in hosts:
        if not _HOST_PATTERN.fullmatch(host):
            raise UnsafeServerOptions(
                f"{host!r} is no name of a server", hint="Write a name or an address, for example fleet.example.org."
            )
    builder.set(HOSTS_VARIABLE, ",".join(hosts), "a page under another name can't ask it through your browser")


def _set_auth(options: ServerOptions, builder: _EnvironmentBuilder) -> Path | None:
    """Set the password if the user gave one. Otherwise return the file of the password that the first start makes."""
    given_login, source = builder.remove(settings.AUTH_VARIABLE), "environment"
    if options.auth is not None:
        if not options.auth.startswith(("env:", "file:")):
            raise UnsafeServerOptions(
                "--auth is no reference: an argument must not contain a password",
                hint="Put user:password into a file of mode 0600, and give --auth file:PATH.",
            )
        given_login, source = _resolve_option(options.auth, "--auth"), "--auth"
    if given_login is None or not given_login.strip():
        path = find_login_path()
        builder.plan(settings.AUTH_VARIABLE, HIDDEN_VALUE, f"{path}", "every client needs it; the first start makes it")
        return path
    user, colon, password = given_login.strip().partition(":")
    if not user or not colon or len(password) < MIN_PASSWORD_CHARACTERS:
        raise UnsafeServerOptions(
            f"the server's password is not of the form user:password with {MIN_PASSWORD_CHARACTERS} characters or more",
            hint="Leave it out, and the first start makes one. "
            "For example: PREFECT_SERVER_API_AUTH_STRING=fleet:$(openssl rand -hex 24)",
        )
    builder.set(settings.AUTH_VARIABLE, given_login.strip(), "every client needs it", source)
    return None


def _require_guards(environment: Mapping[str, str]) -> None:
    """Refuse an environment that lets other web pages use the server. Such an environment may be an accident."""
    csrf, origins = GUARD_SETTINGS[0].name, ALLOWED_ORIGINS_VARIABLE
    for name, is_wrong in (
        (csrf, environment.get(csrf, "true").strip().lower() not in _TRUE),
        (origins, names_all_origins(environment[origins])),
    ):
        if is_wrong:
            other_names = " or ".join((name, settings.SECOND_NAMES[name]))
            raise UnsafeServerOptions(
                f"{name} is {environment[name]!r}: other web pages could use the server through your browser",
                hint=f"Unset {other_names}.",
            )


def _set_encryption_key(builder: _EnvironmentBuilder) -> None:
    """Name the key of Prefect's secrets. The start reads or makes it."""
    name, reason = encryption_key.KEY_VARIABLE, "encrypts Secret blocks: a file, not in the database that it protects"
    if name in builder.environment:
        builder.set_default(name, "", reason)
    else:
        path = str(find_key_path(encryption_key.KEY_NAME))
        builder.plan(name, HIDDEN_VALUE, path, reason)


def _to_url_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:  # a browser can't open this address
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
