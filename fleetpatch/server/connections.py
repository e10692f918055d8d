"""The connections of browsers and programs: one that sends no whole request ends, and can't be held for nothing."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_SECONDS = 20.0
"""How long the head of a request may take. uvicorn has no such limit: it waits for ever for the rest of a line."""


class TimedConnection(H11Protocol):
    """A connection of HTTP/1.1 whose next request must begin in time, also behind an earlier one."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        """Wait for the next request. It may be here already."""
        super().on_response_complete()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._end_without_request, self.cycle)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end_without_request(self, earlier: RequestResponseCycle | None) -> None:
        if self.cycle is earlier and (earlier is None or earlier.response_complete):
            self.transport.close()
