"""Says from where a request comes: by which proxy, under which name of a host, and from whose form."""

import re
import socket
from collections.abc import Iterable
from functools import cache, cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from fleetpatch.settings import WebSettings
from inventory.data_class import dataclass
from tasks.domain.errors import RequestError

Address = IPv4Address | IPv6Address
_FORWARDED: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"}
)
_FORWARDED_PREFIX: Final = "x-forwarded-"
_WITH_PORT: Final = re.compile(r"([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def parse_networks(texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return networks. Raise RequestError if a text is no network."""
    return tuple(map(_parse_network, texts))


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise RequestError(
            f"--trusted-proxy {text!r} is not a network: {error}", hint="Give one as 10.0.0.5 or 10.0.0.0/24."
        ) from error
    if network.prefixlen == 0:
        raise RequestError(
            f"--trusted-proxy {text!r} is everybody: everybody could say who they are",
            hint="Give the proxy's address, for example 10.0.0.5.",
        )
    return network


def parse_address(text: str) -> Address | None:
    """Return an IP address; None if it is none. IPv4 addresses that IPv6 sockets show are IPv4 addresses."""
    try:
        address = ip_address(text.strip().strip("[]").split("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _parse_forwarded(text: str) -> Address | None:
    """Return an address that a proxy names. Some add the port."""
    with_port = _WITH_PORT.fullmatch(text)
    return parse_address(with_port[1] if with_port else text)


@dataclass(frozen=True)
class Peer:
    """Where a request comes from."""

    address: Address | None  # the address at the other end of the connection; None if it is unknown
    headers: Headers
    trusted: tuple[IPv4Network | IPv6Network, ...]

    @cached_property
    def is_trusted_proxy(self) -> bool:
        """Whether its headers about users and addresses are believed."""
        return self.address is not None and any(self.address in network for network in self.trusted)

    @cached_property
    def is_local(self) -> bool:
        """Whether somebody on this machine asks, and not a proxy here for somebody elsewhere."""
        is_loopback = self.address is not None and self.address.is_loopback
        is_forwarded = any(name in _FORWARDED or name.startswith(_FORWARDED_PREFIX) for name in self.headers)
        return is_loopback and not self.is_trusted_proxy and not is_forwarded

    @cached_property
    def display(self) -> str:
        """The address for the audit log: what a trusted proxy says, else the other end of the connection."""
        shown_address = self.address
        if self.is_trusted_proxy:
            # The last one is what the proxy saw, the others are what it was told. Some proxies add a header of their
            # own behind the visitor's, and a chain of trusted ones adds each other.
            for text in reversed(",".join(self.headers.getlist("x-forwarded-for")).split(",")):
                named = _parse_forwarded(text.strip())
                if named is None:
                    break
                shown_address = named
                if not any(named in network for network in self.trusted):
                    break
        return str(shown_address) if shown_address is not None else ""


_NETLOC: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def find_host(netloc: str) -> str:
    """Return the name or the address in "host:port", in small letters; "" if there is none, or anything else."""
    match = _NETLOC.fullmatch(netloc)
    return match[1].strip("[]").rstrip(".").lower() if match else ""


def is_known_host(settings: WebSettings, netloc: str) -> bool:
    """Return whether these pages may be asked for by this Host header.

    A page of another site can have its own name point to this address (DNS rebinding). Then a browser here would send
    requests with that name. So only names that are known, and addresses, may stand in the Host header.
    """
    host = find_host(netloc)
    return bool(host) and (parse_address(host) is not None or host in _list_names(settings))


@cache
def _list_names(settings: WebSettings) -> frozenset[str]:
    host_name = socket.gethostname().lower()
    public = urlsplit(settings.public_url).hostname or ""
    names = {"localhost", settings.host, host_name, host_name.partition(".")[0], public, *settings.allowed_hosts}
    return frozenset(name.lower() for name in names if name)


def is_from_these_pages(settings: WebSettings, headers: Headers) -> bool:
    """Return whether a browser says that a form comes from these pages. Programs say nothing: then it is True too."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        public = urlsplit(settings.public_url)
        if settings.public_url and origin.lower() == f"{public.scheme}://{public.netloc}".lower():
            return True
        scheme, _, netloc = origin.lower().partition("://")
        schemes = {"https"} if settings.tls_certificate is not None else {"http", "https"}  # a proxy may end TLS
        return scheme in schemes and netloc == headers.get("host", "").lower()
    return site in {None, "same-origin", "none"}
