"""How a Prefect server of ours is started: a socket that listens, and the program that serves on it.

The socket is opened before the program starts. So nobody else can get the port meanwhile, and be sent the password.
"""

import errno
import socket
import sys
from typing import Final

from flows.prefect_api.port_listeners import describe_other_user
from tasks.domain.errors import CannotRun

HOSTS_VARIABLE: Final = "FLEETPATCH_SERVER_HOSTS"
"""Names and addresses by which the server may be asked, separated by commas; IPv6 addresses in brackets."""
ENDS_WITH_INPUT: Final = "ends-with-input"
"""The argument of a server that ends when its standard input, a pipe, is closed."""
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
_BACKLOG = 2048  # uvicorn's


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: a name or an address. The first address of a name is used.
        port: 0: any free one.

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


def build_command(listener: socket.socket) -> tuple[str, ...]:
    """Return the command that serves on a socket. The process that executes it must inherit the socket."""
    return (sys.executable, "-P", "-m", "flows.prefect_api.application", str(listener.fileno()))
