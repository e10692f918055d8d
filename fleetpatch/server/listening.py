"""Checks the settings before the pages are served, and opens the port: what is wrong is said at once, with a remedy."""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from fleetpatch.access.network import find_host, parse_address, parse_networks
from fleetpatch.access.roles import Role
from fleetpatch.settings import WebSettings
from flows.ports.web_links import parse_web_url
from flows.prefect_api.port_listeners import describe_other_user
from inventory.schema.value_types import validate_zone
from tasks.domain.errors import CannotRun, RequestError

_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_TAKEN_HEADERS: Final = frozenset({"authorization", "cookie", "host", "origin", "x-forwarded-for"})
_FIRST_COMMON_PORT: Final = 1024
_PLAIN_PORT: Final = 80
_TLS_PORT: Final = 443


def check_settings(settings: WebSettings) -> None:
    """Refuse settings that can't work, or that would let strangers in.

    Raises:
        RequestError: an option is wrong, or lacks another one.
        CannotRun: the certificate or the key can't be used.
    """
    parse_networks(settings.trusted_proxies)
    _check_names(settings)
    parse_web_url(settings.prefect_url, "--prefect-url")
    try:
        validate_zone(settings.zone)
    except ValueError as error:
        raise RequestError(f"--zone: {error}", hint="Give a name such as Europe/Berlin.") from error
    _check_proxy(settings)
    _check_certificate(settings)
    if settings.logins is not None and not (settings.is_secure or settings.needs_certificate):
        raise RequestError(
            "--logins needs TLS: without it, every port of this machine gets the cookies of logins",
            hint="Add --tls, or --public-url with https and a proxy.",
        )
    if settings.allows_plain_http and (settings.makes_certificate or settings.tls_certificate is not None):
        raise RequestError("--no-tls and a certificate exclude each other", hint="Leave one of them out.")


def _check_names(settings: WebSettings) -> None:
    if not settings.host.strip() or "[" in settings.host:
        raise RequestError(
            f"--host {settings.host!r} is no address",
            hint="Give one without brackets: 127.0.0.1, ::1, or 0.0.0.0 for all.",
        )
    parse_web_url(settings.public_url, "--public-url")
    if urlsplit(settings.public_url).path:
        raise RequestError(
            f"--public-url {settings.public_url}: these pages can't be below a path, because their links begin at /",
            hint="Give them a name or a port of their own at the proxy.",
        )
    for name in settings.allowed_hosts:
        if find_host(name) != name.strip(".").lower():
            raise RequestError(
                f"--allow-host {name!r} is no name",
                hint="Give it without http:// and without a port: fleet.example.org",
            )


def _check_proxy(settings: WebSettings) -> None:
    for option, name in (("--user-header", settings.user_header), ("--roles-header", settings.roles_header)):
        if name and (not _HEADER.fullmatch(name) or name.lower() in _TAKEN_HEADERS):
            raise RequestError(f"{option} {name!r} can't be the name of such a header", hint="Use X-Remote-User.")
        if name and not settings.trusted_proxies:
            raise RequestError(
                f"{option} needs --trusted-proxy: without it, everybody could send this header",
                hint="Give the address of the proxy, for example --trusted-proxy 127.0.0.1",
            )
    if settings.roles_header and not settings.user_header:
        raise RequestError("--roles-header needs --user-header", hint="Roles are those of a user.")
    unknown = sorted(set(settings.proxy_roles) - set(Role))
    if unknown:
        raise RequestError(f"--proxy-role {unknown[0]!r} is no role", hint=f"Roles are {', '.join(Role)}.")


def _check_certificate(settings: WebSettings) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        raise RequestError("--tls-cert and --tls-key need each other", hint="Give the files of both, in PEM form.")
    if certificate is None or key is None:
        return
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise CannotRun(
                f"{option} {path} can't be read: {error.strerror}", hint="The account of fleetpatch web must read it."
            ) from error
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, _refuse_password)
    except (ssl.SSLError, ValueError) as error:
        raise CannotRun(
            f"--tls-cert {certificate} and --tls-key {key} can't be used together: {error}",
            hint="Both must be PEM; the key must belong to the first certificate, and must have no password.",
        ) from error


def _refuse_password() -> str:
    raise ValueError("the key has a password")


@contextmanager
def open_listener(settings: WebSettings) -> Iterator[socket.socket]:
    """Yield a socket that listens on the address of the settings.

    Raises:
        CannotRun: it can't: the port is used, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = parse_address(settings.host)
    is_all = family == socket.AF_INET6 and address is not None and address.is_unspecified
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=family,
            backlog=512,
            dualstack_ipv6=is_all and socket.has_dualstack_ipv6(),  # "::" is every address, also of IPv4
        )
    except OSError as error:
        explanation, hint = _explain(error, settings.port)
        raise CannotRun(f"can't listen on {settings.host} port {settings.port}: {explanation}", hint=hint) from error
    with listener:
        # asyncio sets it only on sockets that name their protocol, which these do not. Without it, each answer after
        # the first of a connection waits for the browser's delayed acknowledgement: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _explain(error: OSError, port: int) -> tuple[str, str]:
    """Return why nothing can listen there, and the remedy."""
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        user = describe_other_user(port)
        return f"the port is used by {user or 'another process'}", "Choose another one: `--port NUMBER`."
    if number == errno.EACCES and port < _FIRST_COMMON_PORT:
        remedy = f"Choose a --port of {_FIRST_COMMON_PORT} or more, with a proxy before it."
        return f"only root may use ports below {_FIRST_COMMON_PORT}", remedy
    # create_server keeps the number of a failed look-up, and loses its class. These numbers are below 0.
    fault = "the name is not known" if number < 0 else os.strerror(number)
    return fault, "Give an address of this machine: --host"


def describe_address(settings: WebSettings, listener: socket.socket) -> str:
    """Return the address that a person here can open."""
    if settings.public_url:
        return settings.public_url
    scheme, usual = ("https", _TLS_PORT) if settings.tls_certificate is not None else ("http", _PLAIN_PORT)
    host, port = settings.host, listener.getsockname()[1]
    address = parse_address(host)
    if address is not None and address.is_unspecified:
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port == usual else f"{scheme}://{host}:{port}"
