"""Ports for servers that are processes of their own."""

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port that nobody listens on just now, and that no other program gets by chance before a server does.

    The kernel gives ports of a range of its own to connections, and to who asks for any port. This one is below it.
    """
    first = int(RANGE.read_text(encoding="ascii").split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
