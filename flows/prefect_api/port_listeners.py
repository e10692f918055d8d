"""The sockets on which a Prefect server of ours listens, and who else listens on a port of this machine.

Linux tells every user who listens: proc_pid_net(5). The socket is opened before the server's program starts. So nobody
else can get the port meanwhile, and be sent the password.
"""

import errno
import ipaddress
import os
import pwd
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.domain.errors import CannotRun

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_LISTENING: Final = "0A"  # TCP_LISTEN of the kernel: include/net/tcp_states.h
_SOCKET_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


def describe_other_user(port: int) -> str:
    """Return ``user NAME`` if a process of another user listens on a port.

    Return "" if only our own do, or if that is not known: of another network namespace, the kernel tells nothing.
    """
    other_users = sorted({owner for _, owner in read_listeners(port)} - {os.geteuid()})
    if not other_users:
        return ""
    try:
        return f"user {pwd.getpwuid(other_users[0]).pw_name}"
    except KeyError:  # it has no name here
        return f"user {other_users[0]}"


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
                # An address that the kernel printed as words of 32 bits, each in the machine's byte order.
                numbers = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
                yield ipaddress.ip_address(struct.pack(f"={len(numbers)}I", *numbers)), int(fields[7])


HOSTS_VARIABLE: Final = "FLEETPATCH_SERVER_HOSTS"
"""Names and addresses by which the server may be asked, separated by commas; IPv6 addresses in brackets."""
ENDS_WITH_INPUT: Final = "ends-with-input"
"""The argument of a server that ends when its standard input, a pipe, is closed."""
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
_BACKLOG = 2048  # uvicorn's


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Of a name, the first address is used. Port 0 is any free one.

    Raises:
        CannotRun: the port is in use, or the host is not one of this machine.
    """
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            user = describe_other_user(port)
            raise CannotRun(
                f"port {port} of {host} is already in use{f' by {user}' if user else ''}",
                hint="Choose another one: `--port NUMBER`.",
            ) from error
        raise CannotRun(
            f"no server can listen on {host}:{port}: {error.strerror or error}",
            hint="Give an address of this machine with --host, and a port above 1023 with --port.",
        ) from error
    return listener


def build_server_command(listener: socket.socket) -> tuple[str, ...]:
    """Return the command that serves on a socket. The process that executes it must inherit the socket."""
    return (sys.executable, "-P", "-m", "flows.prefect_api.application", str(listener.fileno()))
