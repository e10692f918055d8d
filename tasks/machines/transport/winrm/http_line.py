"""One HTTP connection to one machine: bounded in time and in bytes, never opened a second time.

A login belongs to a TCP connection: with NTLM, Kerberos and CredSSP also the keys of the messages. If a connection
ends, requests would open another one by itself, and send on it what was encrypted for the first. So it may not.
"""

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
"""The longest answer. fleetpatch asks for at most 150 kB."""
TCP_USER_TIMEOUT_MILLISECONDS: Final = 30_000
_KEEPALIVE_SECONDS: Final = 30
_LINUX_OPTIONS: Final = {"TCP_USER_TIMEOUT": TCP_USER_TIMEOUT_MILLISECONDS, "TCP_KEEPIDLE": _KEEPALIVE_SECONDS}
_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), n) for name, n in _LINUX_OPTIONS.items() if hasattr(socket, name)),
]


class LineBroken(Exception):
    """The connection can't be used any more."""


class AnswerTooLong(Exception):
    """An answer has more than MAX_RESPONSE_BYTES."""


class HttpLine(HTTPAdapter):
    """The only way of a session of requests: one connection, without proxies.

    ``tls``: for HTTPS; None: HTTP.
    ``thumbprints``: SHA-256 or SHA-1 that the machine's certificate may have; empty: only ``tls`` checks it.

    Attributes:
        is_logged_in: set by the caller at the first good answer. From then on, no other connection is opened.
        credentials_sent: how many requests had a header with a part of a login.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, thumbprints: tuple[str, ...] = ()) -> None:
        super().__init__(max_retries=0)
        self.is_logged_in = False
        self.credentials_sent = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._connections: list[HTTPConnection] = []
        self._expired = False
        self._pool: HTTPConnectionPool
        options: dict[str, Any] = {"maxsize": 1, "block": False, "socket_options": _SOCKET_OPTIONS}
        if tls is None:
            self._pool = HTTPConnectionPool(host, port, **options)
        else:
            self._pool = HTTPSConnectionPool(host, port, ssl_context=tls, **options)
        base = HTTPConnection if tls is None else HTTPSConnection
        self._pool.ConnectionCls = _build_connection_class(base, self, thumbprints)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401  # as its base
        """Send a request on the connection.

        Raises:
            LineBroken: the connection is not the one that was logged in, or is no longer logged in.
        """
        if "Authorization" in request.headers:
            self.credentials_sent += 1
        response = super().send(request, *args, **options)
        if response.status_code == 401 and self.is_logged_in:
            raise LineBroken("the machine asks for another login")  # requests would send one here
        _limit_bytes(response)
        return response

    def get_connection_with_tls_context(self, *_: object, **__: object) -> HTTPConnectionPool:
        """Return the one pool, which has the one connection."""
        return self._pool

    def cert_verify(self, *_: object, **__: object) -> None:
        """Change nothing: the pool has its TLS settings."""

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        while self._connections:  # one whose answer was not read to its end is not in the pool
            self._connections.pop().close()
        super().close()

    @contextmanager
    def limit_time(self, seconds: float) -> Iterator[None]:
        """Break the connection if the context lasts longer: the timeouts of sockets count from the last byte."""
        timer = threading.Timer(max(0.0, seconds), self._break)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def require_new_connection_allowed(self) -> None:
        """Require that a connection may be opened.

        Raises:
            LineBroken: the machine ended the one that was logged in, or its time is over.
        """
        if self.is_logged_in:
            raise LineBroken("the machine closed the connection")
        if self._expired:
            raise LineBroken("no time is left")

    def add_socket(self, connection: HTTPConnection, sock: socket.socket) -> None:
        """Remember an open socket, so that it can be broken from another thread, also during its TLS handshake."""
        self._connections.append(connection)
        with self._lock:
            self._sockets.append(sock.dup())

    def forget_sockets(self) -> None:
        """Close what was remembered: else the machine would not see the end of a connection."""
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def _break(self) -> None:
        self._expired = True
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _build_connection_class(base: type[HTTPConnection], line: HttpLine, thumbprints: tuple[str, ...]) -> Any:  # noqa: ANN401
    class LineConnection(base):  # type: ignore[valid-type,misc]  # the base is a variable
        def _new_conn(self) -> socket.socket:
            line.require_new_connection_allowed()
            sock = cast("socket.socket", super()._new_conn())
            line.add_socket(self, sock)
            return sock

        def connect(self) -> None:
            super().connect()
            if thumbprints:
                certificate = self.sock.getpeercert(binary_form=True) or b""
                digests = {_hash(name, certificate) for name in ("sha1", "sha256")}
                if not digests & set(thumbprints):
                    self.sock.close()
                    raise ssl.SSLError(f"the thumbprint of its certificate is {_hash('sha256', certificate)}")
                self.is_verified = True  # urllib3 knows no thumbprints, and would warn

        def close(self) -> None:
            line.forget_sockets()
            super().close()

    return LineConnection


def _hash(name: str, data: bytes) -> str:
    return hashlib.new(name, data, usedforsecurity=False).hexdigest()


def _limit_bytes(response: requests.Response) -> None:
    """Limit what is read of an answer. It is read later: an NTLM login looks at the connection first."""
    raw = response.raw
    stream = raw.stream

    def limited(*args: object, **options: object) -> Iterator[bytes]:
        total = 0
        for chunk in stream(*args, **options):
            total += len(chunk)
            if total > MAX_RESPONSE_BYTES:
                raw.close()
                raise AnswerTooLong(f"an answer has more than {MAX_RESPONSE_BYTES} bytes")
            yield chunk

    raw.stream = limited
