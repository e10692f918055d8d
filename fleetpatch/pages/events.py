"""Scheduled events: what machines are told now, who has approved it, and what became of the last ones."""

from typing import Annotated, Final

from fastapi import Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from fleetpatch.access.identity import Identity
from fleetpatch.access.roles import Role
from fleetpatch.acts.event_acts import approve_scheduled_event, get_events, withdraw_scheduled_event
from fleetpatch.web.authentication import ActPermission, build_viewers_router
from fleetpatch.web.rendering import render_page
from tasks.domain.errors import RequestError
from tasks.rules.scheduled_events import build_event_row

router = build_viewers_router()
Runner = Annotated[Identity, Depends(ActPermission(Role.RUN))]
_SIZE: Final = 200


@router.get("/events")
def show_events(request: Request) -> Response:
    """Show what machines are told now, and what was over lately."""
    return _show(request)


@router.post("/events/{event_id}/approve")
def approve(request: Request, event_id: str, _: Runner) -> Response:
    """Let an event begin now."""
    try:
        approve_scheduled_event(request, event_id)
    except RequestError as error:
        return _show(request, error)
    return RedirectResponse("/events", 303)


@router.post("/events/{event_id}/withdraw")
def withdraw(request: Request, event_id: str, _: Runner, reason: Annotated[str, Form(max_length=500)] = "") -> Response:
    """Withdraw an event."""
    try:
        withdraw_scheduled_event(request, event_id, reason.strip())
    except RequestError as error:
        return _show(request, error)
    return RedirectResponse("/events", 303)


def _show(request: Request, refusal: RequestError | None = None) -> Response:
    events = get_events(request)
    told = events.find_newest(_SIZE, only_open=True)
    told_ids = {event.id for event in told}
    over = [event for event in events.find_newest(_SIZE, only_open=False) if event.id not in told_ids]
    return render_page(
        request,
        "events.html.j2",
        status=409 if refusal is not None else 200,
        told=[build_event_row(event) for event in told],
        over=[build_event_row(event) for event in over],
        refusal=refusal,
    )
