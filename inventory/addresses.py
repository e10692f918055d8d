"""Addresses: which texts lead to the same place."""

import ipaddress
import socket

from inventory.machine import Machine, TransportKind

DEFAULT_PORTS = {TransportKind.SSH: 22, TransportKind.WINRM: 5986}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Way = tuple[TransportKind, str, int | None, tuple[str, ...]]


def canonical(address: str) -> str:
    """Return the one way to write an address: small letters, no dot at the end, IP addresses as short as can be."""
    bare = address.lower().removeprefix("[").removesuffix("]")
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return bare.removesuffix(".")
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def odd_ipv4(address: str) -> str | None:
    """Return the IPv4 address that a text like ``0x7f.1`` is to the system's resolver; None for anything else."""
    try:
        return socket.inet_ntoa(socket.inet_aton(address))
    except (OSError, ValueError):
        return None


def way_to(machine: Machine) -> Way:
    """Return how a machine is reached; two machines for which it is the same are one."""
    port = machine.port or DEFAULT_PORTS.get(machine.transport)
    address = canonical(machine.address)
    at_home = address in _LOOPBACK and (machine.transport, port, machine.jump) == (TransportKind.SSH, 22, ())
    if at_home or machine.transport is TransportKind.LOCAL:
        return (TransportKind.LOCAL, "", None, ())
    return (machine.transport, address, port, machine.jump)
