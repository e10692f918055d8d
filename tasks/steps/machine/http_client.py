"""HTTP for the custom checks: requests, redirects within one host, and error texts without secrets."""

import base64
import http.client
import ssl
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from inventory.network_targets import parse_url


class _SameHostRedirectHandler(HTTPRedirectHandler):
    """Follows redirects within one host. A redirect to another host is the answer of the check (3xx)."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the next request, or None if the redirect itself is the answer."""
        try:
            there, here = parse_url(newurl), parse_url(req.full_url)
        except ValueError:
            return None
        if there.hostname != here.hostname or (there.scheme, there.port) not in _list_allowed_endpoints(here):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _list_allowed_endpoints(here: SplitResult) -> set[tuple[str, int | None]]:
    """Return the schemes and ports that count as the same host: its own, and the change from http to https."""
    usual = {"http": {80, None}, "https": {443, None}}
    mine = usual[here.scheme] if here.port in usual[here.scheme] else {here.port}
    upgraded = usual["https"] if here.scheme == "http" and here.port in usual["http"] else set()
    return {(here.scheme, port) for port in mine} | {("https", port) for port in upgraded}


HTTP_OPENER = build_opener(_SameHostRedirectHandler)


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

    Args:
        target: the URL.
        body: JSON to post. None: send a GET.

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
