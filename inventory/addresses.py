"""Compares addresses: decides when two texts mean the same endpoint."""

import ipaddress
import socket

from inventory.machine import Machine, TransportKind, WinrmScheme

DEFAULT_PORTS = {TransportKind.SSH: 22, TransportKind.WINRM: 5986}
WINRM_PORTS = {WinrmScheme.HTTPS: 5986, WinrmScheme.HTTP: 5985}
_LOOPBACK_ADDRESSES = frozenset({"localhost", "127.0.0.1", "::1"})

Endpoint = tuple[TransportKind, str, int | None, tuple[str, ...]]


def canonicalize_address(address: str) -> str:
    """Return the canonical form of an address: lower case, no dot at the end, IP addresses in their shortest form."""
    bare = address.lower().removeprefix("[").removesuffix("]")
    try:
        parsed = ipaddress.ip_address(bare)
    except ValueError:
        return bare.removesuffix(".")
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def parse_legacy_ipv4(address: str) -> str | None:
    """Return the IPv4 address that the system's resolver reads from a text such as ``0x7f.1``, or None."""
    try:
        return socket.inet_ntoa(socket.inet_aton(address))
    except (OSError, ValueError):
        return None


def build_endpoint(machine: Machine) -> Endpoint:
    """Return how a machine is reached. Two machines with the same endpoint are one machine."""
    port = machine.port or DEFAULT_PORTS.get(machine.transport)
    if machine.transport is TransportKind.WINRM and port in WINRM_PORTS.values():
        port = DEFAULT_PORTS[TransportKind.WINRM]  # its two listeners are ways to the same machine
    address = canonicalize_address(machine.address)
    is_controller = address in _LOOPBACK_ADDRESSES and (machine.transport, port, machine.jump) == (
        TransportKind.SSH,
        22,
        (),
    )
    if is_controller or machine.transport is TransportKind.LOCAL:
        return (TransportKind.LOCAL, "", None, ())
    return (machine.transport, address, port, machine.jump)
