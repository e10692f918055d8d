"""Send an event to a URL: as signed JSON by POST (Standard Webhooks), or as a line of syslog.

A webhook is tried again for some seconds. Its receiver checks ``webhook-signature`` with the key, refuses an old
``webhook-timestamp``, and ignores a ``webhook-id`` that it already has.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import platform
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import SplitResult, urlsplit

from flows.notify.events import MACHINE_FAILED, Event, render_cef, render_json
from tasks.domain.errors import CredentialError

DEADLINE_SECONDS: Final = 12.0
"""How long one event is tried, so that the end of a run does not wait for it in vain."""
TIMEOUT_SECONDS: Final = 5.0
RETRY_DELAYS_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
NOT_ACCEPTED: Final = "the service did not accept it"
_KEY_PREFIX: Final = "whsec_"
_MIN_KEY_BYTES: Final = 16
_hidden = threading.local()


def send_webhook(
    url: str,
    key: str,
    event: Event,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Send one event. Return "" if the receiver has accepted it, otherwise why the last attempt has failed.

    Redirects are refused: they would lead elsewhere.

    Without a key ("") it is not signed. No attempt begins later than the deadline.

    Raises:
        CredentialError: the URL or the key is not usable.
    """
    import httpx  # noqa: PLC0415 - most runs send nothing

    _check_url(url)
    body, until = render_json(event), time.monotonic() + deadline_seconds
    secret = _parse_key(key)
    with _hide_urls(), httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
        for delay in (*RETRY_DELAYS_SECONDS, None):
            headers = build_headers(event.id, int(time.time()), body, secret)
            try:
                with client.stream("POST", url, content=body, headers=headers) as answer:
                    status = answer.status_code  # its body is not read: it may be huge, or never end
                reason = f"{NOT_ACCEPTED}: status {status}"
            except httpx.TransportError as error:  # its text may have the URL
                status, reason = 0, f"the service can't be reached: {_describe_cause(error)}"
            if 200 <= status < 300:
                return ""
            is_final = 0 < status < 500 and status not in {408, 429}
            if is_final or delay is None or time.monotonic() + delay >= until:
                break
            wait(delay)
    return reason


def _describe_cause(error: BaseException) -> str:
    """Return the first cause of an error as far as it says nothing of the URL."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message.partition(', certificate')[0]})"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _check_url(url: str) -> None:
    """Refuse what no attempt can reach. Raise CredentialError if it is no http or https URL with a host."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or any(not "!" <= character <= "~" for character in url):
        raise CredentialError("its reference does not lead to an http or https URL")


@contextlib.contextmanager
def _hide_urls() -> Iterator[None]:
    """Keep out of the log what httpx says in this thread: each request with its URL, which may be a secret."""
    logging.getLogger("httpx").addFilter(_is_shown)  # it stays: to remove it could unhide those of another thread
    _hidden.is_on = True
    try:
        yield
    finally:
        _hidden.is_on = False


def _is_shown(_record: logging.LogRecord) -> bool:
    return not getattr(_hidden, "is_on", False)


def build_headers(event_id: str, timestamp: int, body: bytes, key: bytes) -> Mapping[str, str]:
    """Return the headers of one attempt. Pure.

    ``timestamp`` is in seconds since 1970. With an empty key there is no signature.
    """
    headers = {
        "content-type": "application/json",
        "user-agent": "fleetpatch",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
    }
    if key:
        signed = f"{event_id}.{timestamp}.".encode() + body
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _parse_key(text: str) -> bytes:
    """Return the key's bytes: base64 after ``whsec_``, otherwise the text itself.

    Raises:
        CredentialError: it is no base64, or it is too short.
    """
    if not text:
        return b""
    try:
        encoded = text.startswith(_KEY_PREFIX)
        key = base64.b64decode(text.removeprefix(_KEY_PREFIX), validate=True) if encoded else text.encode()
    except (binascii.Error, ValueError) as error:
        raise CredentialError("the key of its signature is no base64") from error
    if len(key) < _MIN_KEY_BYTES:
        raise CredentialError(f"the key of its signature has less than {_MIN_KEY_BYTES} bytes")
    return key


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
    """Return the whole message on one line. Its time is in UTC; the field ``rt`` has it exactly. Pure."""
    priority = _FACILITY * 8 + (_ERROR if event.kind in _ERROR_KINDS else _NOTICE)
    at = event.at.astimezone(UTC)
    moment = f"{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}"  # not by strftime, which speaks the locale's language
    name = re.sub(r"[^A-Za-z0-9-]", "", host.partition(".")[0])
    return f"<{priority}>{moment} {name or 'fleetpatch'} {render_cef(event, product_version)}"


def send_syslog(url: str, event: Event, tls_context: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
    """Send one event as CEF after the header of RFC 3164, as collectors of CEF read it.

    A UDP datagram has one message, and can't tell whether it arrived. Over TCP a message ends with a newline (RFC
    6587). Over TLS its length stands before it (RFC 5425), and the server's certificate is checked with the system's.

    ``url``: ``syslog+udp://host:port``, ``syslog+tcp://…`` or ``syslog+tls://…``.
    ``tls_context``: makes the context of TLS.

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
