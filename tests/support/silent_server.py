"""A server behind a dead line: who connects to it is neither answered nor refused."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

_TOO_MANY = 3
"""Connections that are enough to fill a queue for one. Linux drops further ones without a word."""


@contextmanager
def silent_server() -> Iterator[int]:
    """Give a port on 127.0.0.1 to which no connection comes to be, as where packets vanish."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(socket.socket()))
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(_TOO_MANY):
            client = stack.enter_context(closing(socket.socket()))
            client.settimeout(0.0)
            with suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server.getsockname()[1]
