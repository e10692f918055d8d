"""Connections of our web servers that do not wait for ever: uvicorn has no limits of this kind."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_SECONDS: Final = 20.0
"""How long the head of a request may take. uvicorn would wait for ever for the rest of a line."""
STALL_SECONDS: Final = 60.0
"""How long a client may read nothing of an answer that waits for it."""


class TimedConnection(H11Protocol):
    """A connection of HTTP/1.1 whose requests must have their heads in time, and whose answers must be read."""

    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        """Be idle, unless the next request has begun already."""
        self._stop_timer(self._timer)
        self._timer = None
        super().on_response_complete()
        if self.transport.get_protocol() is self and self.conn.trailing_data[0]:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head, from its first byte on."""
        if self._timer is None:
            self._expect_request()
        super().data_received(data)

    def pause_writing(self) -> None:
        """Wait for the reader of an answer."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stop_timer(self._stall)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer(self._timer)
        self._stop_timer(self._stall)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:  # noqa: ANN401 - h11's
        """Wait no more: from now on the connection is the WebSocket's."""
        self._stop_timer(self._timer)
        super().handle_websocket_upgrade(event)

    def _expect_request(self) -> None:
        self._stop_timer(self._timer)
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._end_without_request, self.cycle)

    def _stop_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()

    def _end_without_request(self, earlier: RequestResponseCycle | None) -> None:
        if self.cycle is earlier and (earlier is None or earlier.response_complete):
            self.transport.close()
