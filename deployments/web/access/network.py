"""Says from where a request comes, and whether its proxy is trusted."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers

from tasks.errors import RequestError

Address = IPv4Address | IPv6Address
_FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def parse_networks(texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return networks.

    Raises:
        RequestError: a text is no network.
    """
    return tuple(map(_parse_network, texts))


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise RequestError(
            f"--trusted-proxy {text!r} is not a network: {error}", hint="Give one as 10.0.0.5 or 10.0.0.0/24."
        ) from error


def parse_address(text: str) -> Address | None:
    """Return an IP address; None if it is none. IPv4 addresses that IPv6 sockets show are IPv4 addresses."""
    try:
        found = ip_address(text.strip().strip("[]").split("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


@dataclass(frozen=True)
class Peer:
    """Where a request comes from.

    Attributes:
        address: the address at the other end of the connection; None if it is unknown.
        headers: the request's.
        trusted: the networks of trusted proxies.
    """

    address: Address | None
    headers: Headers
    trusted: tuple[IPv4Network | IPv6Network, ...]

    @cached_property
    def is_trusted_proxy(self) -> bool:
        """Whether its headers about users and addresses are believed."""
        return self.address is not None and any(self.address in each for each in self.trusted)

    @cached_property
    def is_local(self) -> bool:
        """Whether somebody on this machine asks, and not a proxy here for somebody elsewhere."""
        is_loopback = self.address is not None and self.address.is_loopback
        is_proxy = self.is_trusted_proxy or any(name in self.headers for name in _FORWARDED)
        return is_loopback and not is_proxy

    @cached_property
    def display(self) -> str:
        """The address for the audit log: what a trusted proxy says, else the other end of the connection."""
        if self.is_trusted_proxy:
            last = self.headers.get("x-forwarded-for", "").rpartition(",")[2]
            found = parse_address(last)  # the last one is what the proxy saw; the others are what it was told
            if found is not None:
                return str(found)
        return str(self.address) if self.address is not None else ""
