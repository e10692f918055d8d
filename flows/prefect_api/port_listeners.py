"""Who listens on a TCP port of this machine, by what Linux tells every user: proc_pid_net(5)."""

import ipaddress
import os
import pwd
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_LISTENING: Final = "0A"  # TCP_LISTEN of the kernel: include/net/tcp_states.h
_SOCKET_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


def describe_other_user(port: int) -> str:
    """Return ``user NAME`` if a process of another user listens on a port.

    Return "" if only our own do, or if that is not known: of another network namespace, the kernel tells nothing.
    """
    others = sorted({owner for _, owner in read_listeners(port)} - {os.geteuid()})
    if not others:
        return ""
    try:
        return f"user {pwd.getpwuid(others[0]).pw_name}"
    except KeyError:  # it has no name here
        return f"user {others[0]}"


def read_listeners(port: int) -> Iterator[tuple[IpAddress, int]]:
    """Yield the address and the owner's user id of each TCP socket that listens on a port: proc_pid_net(5)."""
    for table in _SOCKET_TABLES:
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # no IPv6
            continue
        for fields in (line.split() for line in lines):
            address, _, hexadecimal_port = fields[1].partition(":")
            if fields[3] == _LISTENING and int(hexadecimal_port, 16) == port:
                yield _parse_address(address), int(fields[7])


def _parse_address(text: str) -> IpAddress:
    """Return an address that the kernel printed as words of 32 bits, each in the machine's byte order."""
    numbers = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(numbers)}I", *numbers))
