"""Send an event to a syslog server: CEF after the header of RFC 3164, as collectors of CEF read it.

A UDP datagram has one message. Over TCP a message ends with a newline (RFC 6587), over TLS its length stands before it
(RFC 5425). Over TLS the server's certificate is checked with the system's certificates.
"""

import contextlib
import platform
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import SplitResult, urlsplit

from flows.notify.events import MACHINE_FAILED, Event, render_cef
from tasks.domain.errors import CredentialError

TIMEOUT_SECONDS: Final = 5.0
_FACILITY: Final = 16  # local0
_ERROR, _NOTICE = 3, 5
_ERROR_KINDS: Final = frozenset({"failed", "missed", MACHINE_FAILED})
_DEFAULT_PORTS: Final = {"syslog+udp": 514, "syslog+tcp": 514, "syslog+tls": 6514}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@cache
def _read_version() -> str:
    try:
        return version("fleetpatch")
    except PackageNotFoundError:
        return "0"


def render_syslog(event: Event, host: str, product_version: str) -> str:
    """Return the whole message on one line. Its time is in UTC; the field ``rt`` has it exactly. Pure.

    Args:
        event: the event.
        host: the name of this computer.
        product_version: the version of fleetpatch.
    """
    priority = _FACILITY * 8 + (_ERROR if event.kind in _ERROR_KINDS else _NOTICE)
    at = event.at.astimezone(UTC)
    moment = f"{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}"  # not by strftime, which speaks the locale's language
    name = re.sub(r"[^A-Za-z0-9-]", "", host.partition(".")[0])
    return f"<{priority}>{moment} {name or 'fleetpatch'} {render_cef(event, product_version)}"


def send_syslog(url: str, event: Event, tls_context: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
    """Send one event. UDP can't tell whether it arrived.

    Args:
        url: ``syslog+udp://host:port``, ``syslog+tcp://…`` or ``syslog+tls://…``.
        event: the event.
        tls_context: makes the context of TLS.

    Raises:
        CredentialError: the URL is not usable.
        OSError: the server can't be reached.
    """
    parts, port = _parse_url(url)
    host = parts.hostname or ""
    message = render_syslog(event, platform.node(), _read_version()).encode()
    if parts.scheme == "syslog+udp":
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as datagram:
            datagram.settimeout(TIMEOUT_SECONDS)
            datagram.sendto(message, address)
        return
    with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as line:
        if parts.scheme == "syslog+tcp":
            line.sendall(message + b"\n")
        else:
            with tls_context().wrap_socket(line, server_hostname=host) as safe_line:
                safe_line.sendall(f"{len(message)} ".encode() + message)
                with contextlib.suppress(OSError):  # some servers close without TLS's farewell
                    safe_line.unwrap()


def _parse_url(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise CredentialError("its reference does not lead to the URL of a syslog server") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise CredentialError("its reference must lead to syslog+udp://, syslog+tcp:// or syslog+tls:// and a host")
    return parts, port or _DEFAULT_PORTS[parts.scheme]
