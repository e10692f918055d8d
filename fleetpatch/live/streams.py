"""The routes of server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from fleetpatch.access.identity import get_identity
from fleetpatch.live.live_runs import RunTopic, read_live_part
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import get_context
from fleetpatch.web.live_hub import ReadPart, TooManyStreams
from tasks.domain.errors import RecordsError
from tasks.records.queries.runs import find_run_row

router = build_viewers_router()
_HEADERS = {"X-Accel-Buffering": "no"}  # for nginx: send each event at once
RETRY_SECONDS: Final = "30"
SEND_SECONDS: Final = 30.0
"""How long a browser may take nothing. One that was stopped, or whose computer sleeps, must not keep its place."""


class EventStream(StreamingResponse):
    """A stream that ends if its browser reads nothing for some time. The browser opens another one when it goes on.

    Its place is taken before anything is sent, and given back on every way out: the stream ends, the browser leaves or
    reads nothing, the server stops, or an error occurs.

    ``place``: takes the place, and raises TooManyStreams if none is free.
    """

    def __init__(self, events: AsyncGenerator[str], place: contextlib.AbstractContextManager[None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or that there are too many streams."""
        try:
            with self._place:
                await self._send_events(scope, receive, send)
        except TooManyStreams as refusal:
            # The page says that it is not connected, and loads itself.
            text = "You follow" if refusal.is_own else "Browsers follow"
            text += " as many live pages as are allowed at once. This one is loaded again from time to time.\n"
            answer = PlainTextResponse(text, 429 if refusal.is_own else 503, {"Retry-After": RETRY_SECONDS})
            await answer(scope, receive, send)

    async def _send_events(self, scope: Scope, receive: Receive, send: Send) -> None:

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), SEND_SECONDS)

        async with contextlib.aclosing(self._events):
            with contextlib.suppress(TimeoutError, ClientDisconnect):
                await super().__call__(scope, receive, send_in_time)


@router.get("/live/runs")
async def stream_runs(request: Request) -> Response:
    """Send the runs in progress, for the overview."""
    context = get_context(request)
    return _answer(request, "runs", lambda: read_live_part(context), {})


@router.get("/live/runs/{run_id}")
async def stream_run(request: Request, run_id: str, seen: str = "") -> Response:
    """Send what a run does. ``seen`` is the version of the list of machines that the page has."""
    context = get_context(request)
    # Records that can't be read refuse no stream: it says so, and goes on once they can.
    with contextlib.suppress(RecordsError):
        if await run_in_threadpool(find_run_row, context.records.database, run_id) is None:
            raise HTTPException(404, f"there is no run {run_id!r}")
    return _answer(request, f"run {run_id}", RunTopic(context, run_id).read, {"machines": seen})


def _answer(request: Request, topic: str, read: ReadPart, seen: Mapping[str, str]) -> Response:
    hub, identity = get_context(request).live, get_identity(request)
    events = hub.stream(topic, read, seen, request.is_disconnected)
    return EventStream(events, hub.reserve_place(identity.address, identity.name))
