"""Checks the names of hosts: that a request is for these pages, and that a form comes from them.

A page of another site can have its own name point to this address (DNS rebinding). Then a browser here would send
requests with that name. So only names that are known, and addresses, may stand in the Host header.
"""

import re
import socket
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from fleetpatch.access.network import parse_address
from fleetpatch.settings import WebSettings

_NETLOC: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def find_host(netloc: str) -> str:
    """Return the name or the address in "host:port", in small letters; "" if there is none, or anything else."""
    match = _NETLOC.fullmatch(netloc)
    return match[1].strip("[]").rstrip(".").lower() if match else ""


def is_known_host(settings: WebSettings, netloc: str) -> bool:
    """Return whether these pages may be asked for by this Host header."""
    host = find_host(netloc)
    return bool(host) and (parse_address(host) is not None or host in _list_names(settings))


@cache
def _list_names(settings: WebSettings) -> frozenset[str]:
    own = socket.gethostname().lower()
    public = urlsplit(settings.public_url).hostname or ""
    names = {"localhost", settings.host, own, own.partition(".")[0], public, *settings.allowed_hosts}
    return frozenset(name.lower() for name in names if name)


def is_from_these_pages(settings: WebSettings, headers: Headers) -> bool:
    """Return whether a browser says that a form comes from these pages. Programs say nothing: then it is True too."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        return _is_own_origin(settings, headers, origin)
    return site in {None, "same-origin", "none"}


def _is_own_origin(settings: WebSettings, headers: Headers, origin: str) -> bool:
    public = urlsplit(settings.public_url)
    if settings.public_url and origin.lower() == f"{public.scheme}://{public.netloc}".lower():
        return True
    scheme, _, netloc = origin.lower().partition("://")
    schemes = {"https"} if settings.tls_certificate is not None else {"http", "https"}  # a proxy may end TLS
    return scheme in schemes and netloc == headers.get("host", "").lower()
