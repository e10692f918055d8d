"""Requests of checks and hooks over HTTP, and why one failed."""

import base64
import http.client
import ssl
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlunsplit
from urllib.request import Request

from inventory.addresses import parse_url

_HTTP_ERROR_TEXTS: tuple[tuple[type[BaseException], str], ...] = (
    (http.client.InvalidURL, "the URL contains a blank or a control character: write it as %20"),
    (
        UnicodeError,
        "the URL contains letters that can't be sent (write them as %C3%A9), or its name can't be looked up",
    ),
    (http.client.RemoteDisconnected, "the connection was closed without an answer"),
    (http.client.HTTPException, "the answer is no HTTP"),
    (TimeoutError, "no answer in time"),
)


def describe_http_error(error: Exception) -> str:
    """Return why a page could not be read. The library's own text is not used: it may repeat the URL."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    for kind, text in _HTTP_ERROR_TEXTS:
        if isinstance(reason, kind):
            return text
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError) and (reason.strerror or str(reason).startswith("Tunnel ")):
        return reason.strerror or str(reason)
    return type(reason).__name__


def build_http_request(target: str, body: bytes | None = None) -> Request:
    """Return the request for a URL. Its login is sent as basic authentication, but never to a redirect's target.

    With a ``body``, it posts this JSON.

    Raises:
        ValueError: it is not a valid http or https URL; the message repeats nothing of it.
    """
    parts = parse_url(target)
    host = parts.netloc.rpartition("@")[2]
    headers = {"User-Agent": "fleetpatch", **({"Content-Type": "application/json"} if body is not None else {})}
    request = Request(urlunsplit(parts._replace(netloc=host)), data=body, headers=headers)  # noqa: S310 - the scheme is checked above
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request
