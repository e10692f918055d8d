"""TCP ports on loopback that can be closed and opened again, and stay the same host's all the while."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

ADDRESS = "127.0.0.1"


def end(connection: socket.socket, *, reset: bool) -> None:
    """Have the thread that serves a connection end it: with RST, as a machine does that lost its power, or with FIN.

    Only that thread closes it: another socket could get its number while it still reads.
    """
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Not the method of a TLS socket: that one would take the encryption off what is still to be sent.
        socket.socket.shutdown(connection, socket.SHUT_RD)


class Port:
    """One port. A second socket that never listens keeps its number from everybody else while it is closed."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        """Keep a number; `serve` is called in a thread of its own for each connection."""
        self._serve = serve
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._keeper = self._bound(0)
        self.number: int = self._keeper.getsockname()[1]

    @staticmethod
    def _bound(number: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ADDRESS, number))
        return made

    def open(self) -> None:
        with self._lock:
            if self._listener is not None:
                return
            self._listener = self._bound(self.number)
            self._listener.listen(256)
            self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Refuse connections from now on."""
        with self._lock:
            if self._listener is None or self._thread is None:
                return
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            self._thread.join()
            self._listener.close()
            self._listener = None

    def give_up(self) -> None:
        """Close it for good: the number is anybody's."""
        self.close()
        self._keeper.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
