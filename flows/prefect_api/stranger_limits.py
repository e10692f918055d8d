"""What somebody without the password may cost a Prefect server: few connections, and each for a short time.

Prefect answers nothing of value without the password, but it waits for ever: for the rest of a request, and for the
password on a WebSocket. Of an SQLite database, it serves 100 requests and WebSockets at once. So a hundred silent ones
would keep everybody out.
"""

import asyncio
import base64
import binascii
import hmac
import json
from typing import Any, ClassVar, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.prefect_api.timed_connection import TimedConnection

MAX_SILENT_CONNECTIONS: Final = 256
"""So many connections may wait for the head of their first request. One more ends the oldest."""
MAX_STRANGERS: Final = 32
"""So many requests without the password are answered at once."""
MAX_WAITING_STRANGERS: Final = 256  # requests for the UI's files: a browser asks for all at once
WAIT_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 60.0  # for an answer without the password
MAX_SILENT_SOCKETS: Final = 64
"""So many WebSockets may wait for the password. One more ends the oldest. With the strangers, less than 100."""
PASSWORD_SECONDS: Final = 10.0
"""How long a WebSocket waits for the password, which a client sends first."""
MAX_LOGIN_CHARACTERS: Final = 4096
OPEN_PATH: Final = "/api/health"
"""Always answered: it tells whether the server is there."""
_GOING_AWAY: Final = 1001  # RFC 6455, 7.4.1. Prefect's clients connect again. They take 1008 as the end for ever
_POLICY_VIOLATION: Final = 1008
_CLOSE: Final = (b"connection", b"close")


class SilentConnection(TimedConnection):
    """A connection that makes room for others until its first request is there."""

    silent: ClassVar[dict["SilentConnection", None]] = {}  # the oldest first; the event loop's only thread changes it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and end the oldest if there are too many."""
        super().connection_made(transport)
        self.silent[self] = None
        if len(self.silent) <= MAX_SILENT_CONNECTIONS:
            return
        for connection in [*self.silent]:
            if connection.cycle is not None:
                del self.silent[connection]
        if len(self.silent) > MAX_SILENT_CONNECTIONS:
            oldest = next(iter(self.silent))
            del self.silent[oldest]
            oldest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self.silent.pop(self, None)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:  # noqa: ANN401 - h11's
        """Count it no more: StrangerLimits counts WebSockets."""
        self.silent.pop(self, None)
        super().handle_websocket_upgrade(event)


class StrangerLimits:
    """An ASGI application that limits requests without the password, and WebSockets that have not sent it yet."""

    def __init__(self, application: ASGIApp, password: str) -> None:
        self._application = application
        self._password = password.encode()
        self._places = asyncio.Semaphore(MAX_STRANGERS)
        self._waiting = 0
        self._silent: dict[asyncio.Timeout, None] = {}  # the oldest first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "websocket":
            await self._application(scope, self._expect_password(receive, send), send)
        elif scope["type"] != "http" or self._has_password(scope):
            await self._application(scope, receive, send)
        elif (path := scope["path"]) == OPEN_PATH or await self._take_place(path):
            try:
                async with asyncio.timeout(ANSWER_SECONDS) as limit:
                    await self._application(scope, receive, _close_after(send))
            except TimeoutError:
                if not limit.expired():
                    raise  # else uvicorn ends the connection, because the answer is not complete
            finally:
                if path != OPEN_PATH:
                    self._places.release()
        else:
            await send({"type": "http.response.start", "status": 503, "headers": [_CLOSE]})
            await send({"type": "http.response.body", "body": b"Too many requests without the password."})

    async def _take_place(self, path: str) -> bool:
        if self._places.locked() and (path.startswith("/api/") or self._waiting >= MAX_WAITING_STRANGERS):
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._places.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    def _has_password(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, given = value.partition(b" ")
                try:
                    return scheme == b"Basic" and hmac.compare_digest(base64.b64decode(given), self._password)
                except binascii.Error:
                    return False
        return False

    def _expect_password(self, receive: Receive, send: Send) -> Receive:
        """Return ``receive`` whose second message, the first of a client, must come in time."""
        count = 0

        async def receive_in_time() -> Message:
            nonlocal count
            count += 1
            if count != 2:
                return await receive()
            if len(self._silent) >= MAX_SILENT_SOCKETS:
                oldest = next(iter(self._silent))
                del self._silent[oldest]
                oldest.reschedule(0.0)
            try:
                async with asyncio.timeout(PASSWORD_SECONDS) as limit:
                    self._silent[limit] = None
                    try:
                        message = await receive()
                    finally:
                        self._silent.pop(limit, None)
            except TimeoutError:
                return await _end_socket(send, _GOING_AWAY, "no password in time")
            if message["type"] == "websocket.receive" and not _is_login(message.get("text") or ""):
                return await _end_socket(send, _POLICY_VIOLATION, "no message with a password")
            return message

        return receive_in_time


def _is_login(text: str) -> bool:
    """Return whether Prefect can read the message with the password. It answers others with a traceback."""
    try:
        token = len(text) <= MAX_LOGIN_CHARACTERS and (json.loads(text).get("token") or "")
    except (ValueError, AttributeError, RecursionError):
        return False
    return isinstance(token, str) and token.isascii()


async def _end_socket(send: Send, code: int, reason: str) -> Message:
    await send({"type": "websocket.close", "code": code, "reason": reason})
    return {"type": "websocket.disconnect", "code": code}


def _close_after(send: Send) -> Send:
    """Let the connection end with the answer: who has no password keeps none."""

    async def send_last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return send_last
