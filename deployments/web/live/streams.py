"""The routes of server-sent events."""

from collections.abc import Mapping

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from deployments.web.access.identity import require_role
from deployments.web.access.roles import Role
from deployments.web.context import get_context
from deployments.web.live.hub import ReadPart, TooManyStreams
from deployments.web.live.overview import read_part
from deployments.web.live.run import RunTopic
from deployments.web.runs.run_state import find_line

router = APIRouter(dependencies=[Depends(require_role(Role.VIEW))])
_HEADERS = {"X-Accel-Buffering": "no"}  # for nginx: send each event at once


@router.get("/live/runs")
async def stream_runs(request: Request) -> Response:
    """Send the runs in progress, for the overview."""
    context = get_context(request)
    return _answer(request, "runs", lambda: read_part(context), {})


@router.get("/live/runs/{run_id}")
async def stream_run(request: Request, run_id: str, seen: str = "") -> Response:
    """Send what a run does. ``seen`` is the version of the list of machines that the page has."""
    context = get_context(request)
    if await run_in_threadpool(find_line, context.records.database, run_id) is None:
        raise HTTPException(404, f"there is no run {run_id!r}")
    return _answer(request, f"run {run_id}", RunTopic(context, run_id).read, {"machines": seen})


def _answer(request: Request, topic: str, read: ReadPart, seen: Mapping[str, str]) -> Response:
    hub = get_context(request).live
    try:
        hub.require_place()
    except TooManyStreams:
        return PlainTextResponse("Too many browsers follow runs now.\n", 503, {"Retry-After": "30"})
    events = hub.stream(topic, read, seen, request.is_disconnected)
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)
